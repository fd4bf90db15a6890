//! What an attribute is: its type and characteristics, as data (RFC 7643 section 2).
//!
//! The definitions of [`super::user`], [`super::group`] and [`super::enterprise_user`] are written
//! with the `const` constructors here. They are the single source for reading bodies, for PATCH,
//! for filters and for the `/Schemas` endpoint.

/// The data types of RFC 7643 section 2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeType {
    /// Unicode text.
    String,
    /// `true` or `false`; texts that say so are taken as well.
    Boolean,
    /// A number with a fraction.
    Decimal,
    /// A whole number.
    Integer,
    /// An instant, as RFC 3339 writes it.
    DateTime,
    /// A URI.
    Reference,
    /// Base64 text.
    Binary,
    /// An object of sub-attributes.
    Complex,
}

impl AttributeType {
    /// The name in a `/Schemas` document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Decimal => "decimal",
            Self::Integer => "integer",
            Self::DateTime => "dateTime",
            Self::Reference => "reference",
            Self::Binary => "binary",
            Self::Complex => "complex",
        }
    }

    /// What a person should send for this type.
    pub const fn expectation(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Boolean => "true or false",
            Self::Decimal => "a number",
            Self::Integer => "a whole number",
            Self::DateTime => "a date and time such as 2008-01-23T04:56:22Z",
            Self::Reference => "a string that holds a URI",
            Self::Binary => "a string in base64",
            Self::Complex => "an object",
        }
    }
}

/// Who may change an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// The client, at any time.
    ReadWrite,
    /// The server alone.
    ReadOnly,
    /// The client, when the value comes into being.
    Immutable,
    /// The client; and nobody reads it back.
    WriteOnly,
}

impl Mutability {
    /// The name in a `/Schemas` document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "readWrite",
            Self::ReadOnly => "readOnly",
            Self::Immutable => "immutable",
            Self::WriteOnly => "writeOnly",
        }
    }
}

/// When an attribute is part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// In every answer, whatever was asked for.
    Always,
    /// In no answer.
    Never,
    /// Unless the request leaves it out.
    Default,
}

impl Returned {
    /// The name in a `/Schemas` document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::Default => "default",
        }
    }
}

/// Whether two resources may share a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uniqueness {
    /// They may.
    None,
    /// They may not, within one directory.
    Server,
}

impl Uniqueness {
    /// The name in a `/Schemas` document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Server => "server",
        }
    }
}

/// One attribute or sub-attribute.
#[derive(Debug)]
pub struct Attribute {
    /// The name in the schema's spelling.
    pub name: &'static str,
    /// The type of one value.
    pub kind: AttributeType,
    /// Whether the value is an array.
    pub multi_valued: bool,
    /// Whether a resource must have it.
    pub required: bool,
    /// Whether texts are compared with case.
    pub case_exact: bool,
    /// Who may change it.
    pub mutability: Mutability,
    /// When it is answered.
    pub returned: Returned,
    /// Whether it is a key.
    pub uniqueness: Uniqueness,
    /// The values that the schema suggests, mostly for `type`.
    pub canonical_values: &'static [&'static str],
    /// What a [`AttributeType::Reference`] may point to.
    pub reference_types: &'static [&'static str],
    /// The parts of a [`AttributeType::Complex`] attribute.
    pub sub_attributes: &'static [Attribute],
    /// One line for people.
    pub description: &'static str,
}

impl Attribute {
    const fn new(name: &'static str, kind: AttributeType, description: &'static str) -> Self {
        Self {
            name,
            kind,
            multi_valued: false,
            required: false,
            case_exact: false,
            mutability: Mutability::ReadWrite,
            returned: Returned::Default,
            uniqueness: Uniqueness::None,
            canonical_values: &[],
            reference_types: &[],
            sub_attributes: &[],
            description,
        }
    }

    /// A text, compared without case.
    pub(super) const fn string(name: &'static str, description: &'static str) -> Self {
        Self::new(name, AttributeType::String, description)
    }

    /// A boolean.
    pub(super) const fn boolean(name: &'static str, description: &'static str) -> Self {
        Self::new(name, AttributeType::Boolean, description)
    }

    /// An instant.
    pub(super) const fn date_time(name: &'static str, description: &'static str) -> Self {
        Self::new(name, AttributeType::DateTime, description)
    }

    /// A base64 text, compared with case.
    pub(super) const fn binary(name: &'static str, description: &'static str) -> Self {
        Self::new(name, AttributeType::Binary, description).exact()
    }

    /// A URI, compared with case (RFC 7643 section 2.3.7).
    pub(super) const fn reference(
        name: &'static str,
        types: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        let plain = Self::new(name, AttributeType::Reference, description).exact();
        Self {
            reference_types: types,
            ..plain
        }
    }

    /// An attribute that no schema describes.
    pub(crate) const fn undescribed(kind: AttributeType) -> Self {
        Self::new("", kind, "")
    }

    /// An object of the given parts.
    pub(super) const fn complex(
        name: &'static str,
        parts: &'static [Self],
        description: &'static str,
    ) -> Self {
        let plain = Self::new(name, AttributeType::Complex, description);
        Self {
            sub_attributes: parts,
            ..plain
        }
    }

    /// The same, as an array of values.
    pub(super) const fn multi(self) -> Self {
        Self {
            multi_valued: true,
            ..self
        }
    }

    /// The same, required.
    pub(super) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// The same, compared with case.
    pub(super) const fn exact(self) -> Self {
        Self {
            case_exact: true,
            ..self
        }
    }

    /// The same, set by the server alone.
    pub(super) const fn read_only(self) -> Self {
        Self {
            mutability: Mutability::ReadOnly,
            ..self
        }
    }

    /// The same, settled once the value exists.
    pub(super) const fn immutable(self) -> Self {
        Self {
            mutability: Mutability::Immutable,
            ..self
        }
    }

    /// The same, taken and never given back.
    pub(super) const fn write_only(self) -> Self {
        Self {
            mutability: Mutability::WriteOnly,
            returned: Returned::Never,
            ..self
        }
    }

    /// The same, part of every answer.
    pub(super) const fn always_returned(self) -> Self {
        Self {
            returned: Returned::Always,
            ..self
        }
    }

    /// The same, unique within a directory.
    pub(super) const fn unique(self) -> Self {
        Self {
            uniqueness: Uniqueness::Server,
            ..self
        }
    }

    /// The same, with suggested values.
    pub(super) const fn canonical(self, values: &'static [&'static str]) -> Self {
        Self {
            canonical_values: values,
            ..self
        }
    }

    /// Finds a part by its name, in any case.
    pub fn find_part(&self, name: &str) -> Option<&'static Self> {
        self.sub_attributes
            .iter()
            .find(|part| part.name.eq_ignore_ascii_case(name))
    }

    /// The part that stands for the whole when a bare value is given: `value`, where there is one.
    pub fn value_part(&self) -> Option<&'static Self> {
        self.find_part("value")
    }

    /// Whether the attribute points to another resource by id, as `manager` does.
    pub fn is_resource_link(&self) -> bool {
        !self.multi_valued && self.value_part().is_some() && self.find_part("$ref").is_some()
    }
}
