//! The type system part of OPA's GraphQL grammar: definitions, extensions, directives and their descriptions. Whether a
//! schema makes sense is not asked here.

use super::{
    super::{
        Fault, Place,
        ast::{
            ArgumentDefinition, Comments, Definition, DirectiveDefinition, EnumValue, FieldDefinition, OperationType,
            SchemaDefinition, SchemaDocument,
        },
        lexer::Kind,
    },
    Parsed, Parser,
};

/// Where a directive may stand.
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

/// A description and the comments before it.
#[derive(Default)]
struct Description {
    text: String,
    comment: Option<Comments>,
}

// === impl Parser ===

impl Parser<'_> {
    pub(super) fn schema_document(&mut self) -> Parsed<SchemaDocument> {
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
