//! Documents and schemas of GraphQL in OPA's grammar, with its sentences for what does not parse. Nesting is bounded;
//! nothing is checked beyond the grammar.

use super::{
    Fault, Place,
    ast::{
        Argument, ArgumentDefinition, Child, Comment, Comments, Definition, Directive, DirectiveDefinition, EnumValue,
        Field, FieldDefinition, Fragment, Inline, Literal, Operation, OperationType, QueryDocument, SchemaDefinition,
        SchemaDocument, Selection, Spread, Type, VariableDefinition, literal,
    },
    go_quote,
    lexer::{Kind, Lexer, Token},
};

/// Deepest nesting of selections, values or types.
const MAX_DEPTH: usize = 100;

const LOCATIONS: [&str; 19] = [
    "QUERY",
    "MUTATION",
    "SUBSCRIPTION",
    "FIELD",
    "FRAGMENT_DEFINITION",
    "FRAGMENT_SPREAD",
    "INLINE_FRAGMENT",
    "VARIABLE_DEFINITION",
    "SCHEMA",
    "SCALAR",
    "OBJECT",
    "FIELD_DEFINITION",
    "ARGUMENT_DEFINITION",
    "INTERFACE",
    "UNION",
    "ENUM",
    "ENUM_VALUE",
    "INPUT_OBJECT",
    "INPUT_FIELD_DEFINITION",
];

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

/// A description and the comments before it.
#[derive(Default)]
struct Description {
    text: String,
    comment: Option<Comments>,
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

    // --- schemas ---

    fn schema_document(&mut self) -> Parsed<SchemaDocument> {
        let mut document = SchemaDocument::default();
        loop {
            if self.peek().kind == Kind::End {
                document.comment = self.comment.take();
                return Ok(document);
            }
            let description = self.description()?;
            let token = self.peek();
            if token.kind != Kind::Name {
                return self.unexpected();
            }
            match token.text.as_str() {
                "scalar" | "type" | "interface" | "union" | "enum" | "input" => {
                    document.definitions.push(self.definition(description)?);
                }
                "schema" => document.schema.push(self.schema_definition(description)?),
                "directive" => document.directives.push(self.directive_definition(description)?),
                "extend" => {
                    if let Some(taken) = self.taken.as_ref().filter(|_| !description.text.is_empty()) {
                        return Err(Fault::at(Some(taken.place), format!("Unexpected {taken}")));
                    }
                    self.extension(&mut document)?;
                }
                _ => return self.unexpected(),
            }
        }
    }

    fn description(&mut self) -> Parsed<Description> {
        if !matches!(self.peek().kind, Kind::String | Kind::BlockString) {
            return Ok(Description::default());
        }
        let comment = self.comment.clone();
        Ok(Description { text: self.next()?.text, comment })
    }

    /// The description of a part, its comments only when it says something.
    fn part_description(&mut self) -> Parsed<(Description, Option<Comments>, Option<Place>)> {
        let mut description = self.description()?;
        if description.text.is_empty() {
            description.comment = None;
        }
        let place = self.place();
        Ok((description, self.comment.clone(), place))
    }

    fn schema_definition(&mut self, description: Description) -> Parsed<SchemaDefinition> {
        let comment = self.keyword("schema")?;
        self.schema_body(description, comment)
    }

    fn schema_body(&mut self, description: Description, comment: Option<Comments>) -> Parsed<SchemaDefinition> {
        let place = self.place();
        let directives = self.directives(true)?;
        let (operation_types, end_of_definition_comment) = self.some("{", "}", |parser| {
            let place = parser.place();
            let comment = parser.comment.clone();
            let operation = parser.operation_type()?;
            parser.expect(":")?;
            Ok(OperationType { operation, r#type: parser.name()?, comment, place })
        })?;
        Ok(SchemaDefinition {
            description: description.text,
            directives,
            operation_types,
            before_description_comment: description.comment,
            after_description_comment: comment,
            end_of_definition_comment,
            place,
        })
    }

    fn definition(&mut self, description: Description) -> Parsed<Definition> {
        let word = self.peek().text.clone();
        let comment = self.keyword(&word)?;
        self.type_body(&word, description, comment, true)
    }

    /// What follows the word that says of which kind a type is.
    fn type_body(
        &mut self,
        word: &str,
        description: Description,
        comment: Option<Comments>,
        definition: bool,
    ) -> Parsed<Definition> {
        let kind = match word {
            "scalar" => "SCALAR",
            "type" => "OBJECT",
            "interface" => "INTERFACE",
            "union" => "UNION",
            "enum" => "ENUM",
            _ => "INPUT_OBJECT",
        };
        let mut body = Definition {
            kind: kind.to_owned(),
            description: description.text,
            before_description_comment: description.comment,
            after_description_comment: comment,
            place: self.place(),
            ..Definition::default()
        };
        body.name = self.name()?;
        // OPA's grammar knows no `implements` in the extension of an interface.
        if kind == "OBJECT" || (kind == "INTERFACE" && definition) {
            body.interfaces = self.interfaces()?;
        }
        body.directives = self.directives(kind != "INPUT_OBJECT" || definition)?;
        match kind {
            "OBJECT" | "INTERFACE" => {
                (body.fields, body.end_of_definition_comment) = self.some("{", "}", Self::field_definition)?;
            }
            "UNION" => self.members(&mut body)?,
            "ENUM" => (body.enum_values, body.end_of_definition_comment) = self.some("{", "}", Self::enum_value)?,
            "INPUT_OBJECT" => {
                (body.fields, body.end_of_definition_comment) = self.some("{", "}", Self::input_value)?;
            }
            _ => {}
        }
        Ok(body)
    }

    fn interfaces(&mut self) -> Parsed<Vec<String>> {
        let mut names = Vec::new();
        if self.peek().text != "implements" {
            return Ok(names);
        }
        self.next()?;
        self.skip("&")?;
        names.push(self.name()?);
        while self.skip("&")? {
            names.push(self.name()?);
        }
        Ok(names)
    }

    fn members(&mut self, body: &mut Definition) -> Parsed<()> {
        if !self.skip("=")? {
            return Ok(());
        }
        self.skip("|")?;
        loop {
            body.type_places.push(self.peek().place);
            body.types.push(self.name()?);
            if !self.skip("|")? {
                return Ok(());
            }
        }
    }

    fn field_definition(&mut self) -> Parsed<FieldDefinition> {
        let (description, comment, place) = self.part_description()?;
        let name = self.name()?;
        let arguments = self.argument_definitions()?;
        self.expect(":")?;
        Ok(FieldDefinition {
            description: description.text,
            name,
            arguments,
            default_value: None,
            r#type: Some(self.type_reference()?),
            directives: self.directives(true)?,
            before_description_comment: description.comment,
            after_description_comment: comment,
            place,
        })
    }

    fn argument_definitions(&mut self) -> Parsed<Vec<ArgumentDefinition>> {
        let argument = |parser: &mut Self| {
            let of = parser.input_value()?;
            Ok(ArgumentDefinition {
                description: of.description,
                name: of.name,
                default_value: of.default_value,
                r#type: of.r#type,
                directives: of.directives,
                before_description_comment: of.before_description_comment,
                after_description_comment: of.after_description_comment,
                place: of.place,
            })
        };
        Ok(self.some("(", ")", argument)?.0)
    }

    fn input_value(&mut self) -> Parsed<FieldDefinition> {
        let (description, comment, place) = self.part_description()?;
        let name = self.name()?;
        self.expect(":")?;
        Ok(FieldDefinition {
            description: description.text,
            name,
            arguments: Vec::new(),
            r#type: Some(self.type_reference()?),
            default_value: if self.skip("=")? { Some(self.literal(true)?) } else { None },
            directives: self.directives(true)?,
            before_description_comment: description.comment,
            after_description_comment: comment,
            place,
        })
    }

    fn enum_value(&mut self) -> Parsed<EnumValue> {
        let (description, comment, place) = self.part_description()?;
        Ok(EnumValue {
            description: description.text,
            name: self.name()?,
            directives: self.directives(true)?,
            before_description_comment: description.comment,
            after_description_comment: comment,
            place,
        })
    }

    fn extension(&mut self, document: &mut SchemaDocument) -> Parsed<()> {
        let comment = self.keyword("extend")?;
        let word = self.peek().text.clone();
        match word.as_str() {
            "schema" => {
                self.keyword("schema")?;
                let body = self.schema_body(Description::default(), comment)?;
                if body.directives.is_empty() && body.operation_types.is_empty() {
                    return self.unexpected();
                }
                document.schema_extension.push(body);
            }
            "scalar" | "type" | "interface" | "union" | "enum" | "input" => {
                self.keyword(&word)?;
                let body = self.type_body(&word, Description::default(), comment, false)?;
                let empty = body.interfaces.is_empty() && body.directives.is_empty() && body.fields.is_empty();
                if empty && body.types.is_empty() && body.enum_values.is_empty() {
                    return self.unexpected();
                }
                document.extensions.push(body);
            }
            _ => return self.unexpected(),
        }
        Ok(())
    }

    fn directive_definition(&mut self, description: Description) -> Parsed<DirectiveDefinition> {
        let comment = self.keyword("directive")?;
        self.expect("@")?;
        let place = self.place();
        let name = self.name()?;
        let arguments = self.argument_definitions()?;
        let token = self.peek();
        let is_repeatable = token.kind == Kind::Name && token.text == "repeatable";
        if is_repeatable {
            self.next()?;
        }
        self.keyword("on")?;
        self.skip("|")?;
        let mut locations = vec![self.location()?];
        while self.skip("|")? {
            locations.push(self.location()?);
        }
        Ok(DirectiveDefinition {
            description: description.text,
            name,
            arguments,
            locations,
            is_repeatable,
            before_description_comment: description.comment,
            after_description_comment: comment,
            place,
        })
    }

    fn location(&mut self) -> Parsed<String> {
        let name = self.name()?;
        match &self.taken {
            Some(taken) if !LOCATIONS.contains(&name.as_str()) => {
                Err(Fault::at(Some(taken.place), format!("Unexpected {taken}")))
            }
            _ => Ok(name),
        }
    }
}
