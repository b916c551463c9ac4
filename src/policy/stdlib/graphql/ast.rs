//! The syntax tree of GraphQL documents with the members that OPA shows: every struct is one of OPA's objects, written
//! by serde in its names, and read back from what a policy hands in. Nothing here is checked.

use serde::{Deserialize, Deserializer, Serialize};

use super::Place;

/// A struct of OPA's tree: any member may be missing, unknown ones are passed over.
macro_rules! nodes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub(super) struct $name { $($(#[$attribute])* pub $field: $type),* }
    )*};
}

nodes! {
    /// Operations and fragments.
    QueryDocument {
        operations: Vec<Operation>,
        fragments: Vec<Fragment>,
        comment: Option<Comments>,
    }
    /// `query Name($v: T) { … }`.
    Operation {
        operation: String,
        name: String,
        variable_definitions: Vec<VariableDefinition>,
        directives: Vec<Directive>,
        #[serde(deserialize_with = "selections")]
        selection_set: Vec<Selection>,
        #[serde(skip_deserializing)]
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `$v: T = 1`.
    VariableDefinition {
        variable: String,
        r#type: Option<Type>,
        default_value: Option<Literal>,
        directives: Vec<Directive>,
        comment: Option<Comments>,
        used: bool,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `fragment Name on T { … }`.
    Fragment {
        name: String,
        variable_definition: Vec<VariableDefinition>,
        type_condition: String,
        directives: Vec<Directive>,
        #[serde(deserialize_with = "selections")]
        selection_set: Vec<Selection>,
        #[serde(skip_deserializing)]
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `alias: name(arguments) @directive { … }`.
    Field {
        alias: String,
        name: String,
        arguments: Vec<Argument>,
        directives: Vec<Directive>,
        #[serde(deserialize_with = "selections")]
        selection_set: Vec<Selection>,
        #[serde(skip_deserializing)]
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `...Name`.
    Spread {
        name: String,
        directives: Vec<Directive>,
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `... on T { … }`.
    Inline {
        type_condition: String,
        directives: Vec<Directive>,
        #[serde(deserialize_with = "selections")]
        selection_set: Vec<Selection>,
        #[serde(skip_deserializing)]
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `name: value`.
    Argument {
        name: String,
        value: Option<Literal>,
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `@name(arguments)`.
    Directive {
        name: String,
        arguments: Vec<Argument>,
        location: String,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// A value as it is written.
    Literal {
        raw: String,
        children: Vec<Child>,
        kind: u8,
        comment: Option<Comments>,
        expected_type_has_default: bool,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// An element of a list (no name), or a member of an object.
    Child {
        name: String,
        value: Option<Literal>,
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `T`, `[T]`, `T!`.
    Type {
        named_type: String,
        elem: Option<Box<Type>>,
        non_null: bool,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// Definitions of a schema.
    SchemaDocument {
        schema: Vec<SchemaDefinition>,
        schema_extension: Vec<SchemaDefinition>,
        directives: Vec<DirectiveDefinition>,
        definitions: Vec<Definition>,
        extensions: Vec<Definition>,
        comment: Option<Comments>,
    }
    /// `schema { query: T }`.
    SchemaDefinition {
        description: String,
        directives: Vec<Directive>,
        operation_types: Vec<OperationType>,
        before_description_comment: Option<Comments>,
        after_description_comment: Option<Comments>,
        end_of_definition_comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `query: T`.
    OperationType {
        operation: String,
        r#type: String,
        comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// A type of any kind, or its extension.
    Definition {
        kind: String,
        description: String,
        name: String,
        directives: Vec<Directive>,
        interfaces: Vec<String>,
        fields: Vec<FieldDefinition>,
        types: Vec<String>,
        enum_values: Vec<EnumValue>,
        built_in: bool,
        before_description_comment: Option<Comments>,
        after_description_comment: Option<Comments>,
        end_of_definition_comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
        #[serde(skip)]
        type_places: Vec<Place>,
    }
    /// A field of a type.
    FieldDefinition {
        description: String,
        name: String,
        arguments: Vec<ArgumentDefinition>,
        default_value: Option<Literal>,
        r#type: Option<Type>,
        directives: Vec<Directive>,
        before_description_comment: Option<Comments>,
        after_description_comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// An argument of a field or directive.
    ArgumentDefinition {
        description: String,
        name: String,
        default_value: Option<Literal>,
        r#type: Option<Type>,
        directives: Vec<Directive>,
        before_description_comment: Option<Comments>,
        after_description_comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// A value of an enumeration.
    EnumValue {
        description: String,
        name: String,
        directives: Vec<Directive>,
        before_description_comment: Option<Comments>,
        after_description_comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// `directive @name on FIELD`.
    DirectiveDefinition {
        description: String,
        name: String,
        arguments: Vec<ArgumentDefinition>,
        locations: Vec<String>,
        is_repeatable: bool,
        before_description_comment: Option<Comments>,
        after_description_comment: Option<Comments>,
        #[serde(skip)]
        place: Option<Place>,
    }
    /// Comments before something.
    Comments { list: Vec<Comment> }
    /// One comment with its `#`.
    Comment { value: String }
}

/// One of a selection set. What is read back is nearly always a [`Field`], as in OPA.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Selection {
    Field(Field),
    Spread(Spread),
    Inline(Inline),
}

/// OPA's numbers of the kinds of a [`Literal`].
pub(super) mod literal {
    pub(in super::super) const VARIABLE: u8 = 0;
    pub(in super::super) const INT: u8 = 1;
    pub(in super::super) const FLOAT: u8 = 2;
    pub(in super::super) const STRING: u8 = 3;
    pub(in super::super) const BLOCK: u8 = 4;
    pub(in super::super) const BOOLEAN: u8 = 5;
    pub(in super::super) const NULL: u8 = 6;
    pub(in super::super) const ENUM: u8 = 7;
    pub(in super::super) const LIST: u8 = 8;
    pub(in super::super) const OBJECT: u8 = 9;
}

// === impl Type ===

impl Type {
    /// The name within all lists; empty when there is none.
    pub(super) fn name(&self) -> &str {
        let mut inner = self;
        while let (true, Some(elem)) = (inner.named_type.is_empty(), &inner.elem) {
            inner = elem;
        }
        &inner.named_type
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.elem {
            Some(elem) if self.named_type.is_empty() => write!(f, "[{elem}]")?,
            _ => f.write_str(&self.named_type)?,
        }
        f.write_str(if self.non_null { "!" } else { "" })
    }
}

/// What fits no kind of selection is passed over.
fn selections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Selection>, D::Error> {
    let items = Vec::<serde_json::Value>::deserialize(deserializer)?;
    let read = |item: serde_json::Value| {
        let field = serde_json::from_value(item.clone()).map(Selection::Field);
        let field = field.or_else(|_| serde_json::from_value(item.clone()).map(Selection::Spread));
        field.or_else(|_| serde_json::from_value(item).map(Selection::Inline)).ok()
    };
    Ok(items.into_iter().filter_map(read).collect())
}
