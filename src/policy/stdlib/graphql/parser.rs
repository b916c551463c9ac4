//! Documents and schemas of GraphQL in OPA's grammar, with its sentences for what does not parse. Here are tokens,
//! operations and values; definitions are in [`type_system`]. Nesting is bounded; nothing is checked beyond the grammar.

mod type_system;

use super::{
    Fault, Place,
    ast::{
        Argument, Child, Comment, Comments, Directive, Field, Fragment, Inline, Literal, Operation, QueryDocument,
        SchemaDocument, Selection, Spread, Type, VariableDefinition, literal,
    },
    go_quote,
    lexer::{Kind, Lexer, Token},
};

/// Deepest nesting of selections, values or types.
const MAX_DEPTH: usize = 100;

type Parsed<T> = Result<T, Fault>;

/// A document of operations and fragments.
pub(super) fn query(text: &str) -> Parsed<QueryDocument> {
    Parser::new(text).query_document()
}

/// A document of definitions.
pub(super) fn schema(text: &str) -> Parsed<SchemaDocument> {
    Parser::new(text).schema_document()
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    peeked: Option<Token>,
    /// The token taken last.
    taken: Option<Token>,
    /// The comments before the peeked token.
    comment: Option<Comments>,
    depth: usize,
}

// === impl Parser ===

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Self {
        Self { lexer: Lexer::new(text), peeked: None, taken: None, comment: None, depth: 0 }
    }

    // --- tokens ---

    fn peek(&mut self) -> &Token {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => {
                let mut token = self.lexer.next();
                let mut list = Vec::new();
                while token.kind == Kind::Comment {
                    list.push(Comment { value: std::mem::take(&mut token.text) });
                    token = self.lexer.next();
                }
                if !list.is_empty() {
                    self.comment = Some(Comments { list });
                }
                token
            }
        };
        self.peeked.insert(token)
    }

    fn next(&mut self) -> Parsed<Token> {
        let token = self.peek().clone();
        (self.peeked, self.comment) = (None, None);
        if let Some(fault) = token.fault {
            return Err(fault);
        }
        self.taken = Some(token.clone());
        Ok(token)
    }

    fn place(&mut self) -> Option<Place> {
        Some(self.peek().place)
    }

    fn at(&mut self, mark: &str) -> bool {
        matches!(self.peek().kind, Kind::Mark(found) if found == mark)
    }

    fn skip(&mut self, mark: &str) -> Parsed<bool> {
        let found = self.at(mark);
        if found {
            self.next()?;
        }
        Ok(found)
    }

    /// The comments before it.
    fn expect(&mut self, mark: &str) -> Parsed<Option<Comments>> {
        if self.at(mark) {
            let comment = self.comment.clone();
            self.next()?;
            return Ok(comment);
        }
        let token = self.peek();
        Err(Fault::at(Some(token.place), format!("Expected {mark}, found {}", token.kind)))
    }

    fn name(&mut self) -> Parsed<String> {
        let token = self.peek();
        if token.kind == Kind::Name {
            return Ok(self.next()?.text);
        }
        Err(Fault::at(Some(token.place), format!("Expected Name, found {}", token.kind)))
    }

    /// The comments before it.
    fn keyword(&mut self, word: &str) -> Parsed<Option<Comments>> {
        let token = self.peek();
        if token.kind == Kind::Name && token.text == word {
            let comment = self.comment.clone();
            self.next()?;
            return Ok(comment);
        }
        Err(Fault::at(Some(token.place), format!("Expected {}, found {token}", go_quote(word))))
    }

    fn unexpected<T>(&mut self) -> Parsed<T> {
        let token = self.peek();
        Err(Fault::at(Some(token.place), format!("Unexpected {token}")))
    }

    /// What stands between two marks, if the first is there: at least one. With the comments before the last mark.
    fn some<T>(
        &mut self,
        open: &str,
        close: &str,
        item: impl Fn(&mut Self) -> Parsed<T>,
    ) -> Parsed<(Vec<T>, Option<Comments>)> {
        let mut items = Vec::new();
        if !self.skip(open)? {
            return Ok((items, None));
        }
        while !self.at(close) {
            items.push(item(self)?);
        }
        if items.is_empty() {
            let token = self.peek();
            let message = format!("expected at least one definition, found {}", token.kind);
            return Err(Fault::at(Some(token.place), message));
        }
        let comment = self.comment.clone();
        self.next()?;
        Ok((items, comment))
    }

    fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return Err(Fault::Limit(format!("the document nests deeper than {MAX_DEPTH}")));
        }
        self.depth += 1;
        let parsed = part(self);
        self.depth -= 1;
        parsed
    }

    // --- operations ---

    fn query_document(&mut self) -> Parsed<QueryDocument> {
        let mut document = QueryDocument::default();
        loop {
            let token = self.peek();
            match (token.kind, token.text.as_str()) {
                (Kind::End, _) => return Ok(document),
                (Kind::Name, "fragment") => document.fragments.push(self.fragment()?),
                (Kind::Name, "query" | "mutation" | "subscription") | (Kind::Mark("{"), _) => {
                    document.operations.push(self.operation()?);
                }
                _ => return self.unexpected(),
            }
        }
    }

    fn operation(&mut self) -> Parsed<Operation> {
        let place = self.place();
        if self.at("{") {
            let selection_set = self.selection_set()?;
            return Ok(Operation { operation: "query".to_owned(), selection_set, place, ..Operation::default() });
        }
        let comment = self.comment.clone();
        let operation = self.operation_type()?;
        let name = if self.peek().kind == Kind::Name { self.next()?.text } else { String::new() };
        Ok(Operation {
            operation,
            name,
            variable_definitions: self.variable_definitions()?,
            directives: self.directives(false)?,
            selection_set: self.selection_set()?,
            comment,
            place,
        })
    }

    fn operation_type(&mut self) -> Parsed<String> {
        let token = self.next()?;
        match token.text.as_str() {
            "query" | "mutation" | "subscription" => Ok(token.text),
            _ => Err(Fault::at(Some(token.place), format!("Unexpected {token}"))),
        }
    }

    fn variable_definitions(&mut self) -> Parsed<Vec<VariableDefinition>> {
        Ok(self.some("(", ")", Self::variable_definition)?.0)
    }

    fn variable_definition(&mut self) -> Parsed<VariableDefinition> {
        let place = self.place();
        let comment = self.comment.clone();
        let variable = self.variable()?;
        self.expect(":")?;
        Ok(VariableDefinition {
            variable,
            r#type: Some(self.type_reference()?),
            default_value: if self.skip("=")? { Some(self.literal(true)?) } else { None },
            directives: self.directives(false)?,
            comment,
            used: false,
            place,
        })
    }

    fn variable(&mut self) -> Parsed<String> {
        self.expect("$")?;
        self.name()
    }

    fn selection_set(&mut self) -> Parsed<Vec<Selection>> {
        if !self.at("{") {
            self.expect("{")?;
        }
        self.nested(|parser| Ok(parser.some("{", "}", Self::selection)?.0))
    }

    fn selection(&mut self) -> Parsed<Selection> {
        if self.at("...") {
            return self.spread();
        }
        let place = self.place();
        let comment = self.comment.clone();
        let alias = self.name()?;
        let name = if self.skip(":")? { self.name()? } else { alias.clone() };
        Ok(Selection::Field(Field {
            alias,
            name,
            arguments: self.arguments(false)?,
            directives: self.directives(false)?,
            selection_set: if self.at("{") { self.selection_set()? } else { Vec::new() },
            comment,
            place,
        }))
    }

    fn spread(&mut self) -> Parsed<Selection> {
        let comment = self.expect("...")?;
        let place = self.place();
        let token = self.peek();
        if token.kind == Kind::Name && token.text != "on" {
            let name = self.name()?;
            return Ok(Selection::Spread(Spread { name, directives: self.directives(false)?, comment, place }));
        }
        let mut type_condition = String::new();
        if token.text == "on" {
            self.next()?;
            type_condition = self.name()?;
        }
        Ok(Selection::Inline(Inline {
            type_condition,
            directives: self.directives(false)?,
            selection_set: self.selection_set()?,
            comment,
            place,
        }))
    }

    fn fragment(&mut self) -> Parsed<Fragment> {
        let place = self.place();
        let comment = self.comment.clone();
        self.keyword("fragment")?;
        if self.peek().text == "on" {
            return self.unexpected();
        }
        let name = self.name()?;
        let variable_definition = self.variable_definitions()?;
        self.keyword("on")?;
        Ok(Fragment {
            name,
            variable_definition,
            type_condition: self.name()?,
            directives: self.directives(false)?,
            selection_set: self.selection_set()?,
            comment,
            place,
        })
    }

    // --- values ---

    fn arguments(&mut self, constant: bool) -> Parsed<Vec<Argument>> {
        let argument = |parser: &mut Self| {
            let (name, value, comment, place) = parser.pair(constant)?;
            Ok(Argument { name, value: Some(value), comment, place })
        };
        Ok(self.some("(", ")", argument)?.0)
    }

    /// `name: value`.
    fn pair(&mut self, constant: bool) -> Parsed<(String, Literal, Option<Comments>, Option<Place>)> {
        let place = self.place();
        let comment = self.comment.clone();
        let name = self.name()?;
        self.expect(":")?;
        Ok((name, self.literal(constant)?, comment, place))
    }

    fn literal(&mut self, constant: bool) -> Parsed<Literal> {
        let place = self.place();
        let token = self.peek();
        let kind = match (token.kind, token.text.as_str()) {
            (Kind::Mark("["), _) => return self.nested(|parser| parser.list(constant)),
            (Kind::Mark("{"), _) => return self.nested(|parser| parser.object(constant)),
            (Kind::Mark("$"), _) if !constant => {
                return Ok(Literal { raw: self.variable()?, kind: literal::VARIABLE, place, ..Literal::default() });
            }
            (Kind::Int, _) => literal::INT,
            (Kind::Float, _) => literal::FLOAT,
            (Kind::String, _) => literal::STRING,
            (Kind::BlockString, _) => literal::BLOCK,
            (Kind::Name, "true" | "false") => literal::BOOLEAN,
            (Kind::Name, "null") => literal::NULL,
            (Kind::Name, _) => literal::ENUM,
            _ => return self.unexpected(),
        };
        Ok(Literal { raw: self.next()?.text, kind, place, ..Literal::default() })
    }

    fn list(&mut self, constant: bool) -> Parsed<Literal> {
        let (place, comment) = (self.place(), self.comment.clone());
        self.next()?;
        let mut children = Vec::new();
        while !self.at("]") {
            children.push(Child { value: Some(self.literal(constant)?), ..Child::default() });
        }
        self.next()?;
        Ok(Literal { children, kind: literal::LIST, comment, place, ..Literal::default() })
    }

    fn object(&mut self, constant: bool) -> Parsed<Literal> {
        let (place, comment) = (self.place(), self.comment.clone());
        self.next()?;
        let mut children = Vec::new();
        while !self.at("}") {
            let (name, value, comment, place) = self.pair(constant)?;
            children.push(Child { name, value: Some(value), comment, place });
        }
        self.next()?;
        Ok(Literal { children, kind: literal::OBJECT, comment, place, ..Literal::default() })
    }

    fn directives(&mut self, constant: bool) -> Parsed<Vec<Directive>> {
        let mut directives = Vec::new();
        while self.at("@") {
            self.next()?;
            let place = self.place();
            let name = self.name()?;
            directives.push(Directive { name, arguments: self.arguments(constant)?, location: String::new(), place });
        }
        Ok(directives)
    }

    fn type_reference(&mut self) -> Parsed<Type> {
        let mut reference = if self.skip("[")? {
            let place = self.place();
            let elem = self.nested(Self::type_reference)?;
            self.expect("]")?;
            Type { elem: Some(Box::new(elem)), place, ..Type::default() }
        } else {
            let place = self.place();
            Type { named_type: self.name()?, place, ..Type::default() }
        };
        reference.non_null = self.skip("!")?;
        Ok(reference)
    }
}
