//! The schemas of users and groups, and how a name finds its attribute.
//!
//! Nouns: a [`Schema`] is a URN with attributes; a [`ResourceType`] has one core schema and perhaps
//! extensions; an [`AttributePath`] is a name as a client wrote it, and [`resolve`] says what it
//! stands for. Names and URNs are compared without case everywhere (RFC 7643 section 2.1), and what
//! is stored has the schema's spelling. Attributes are data, so everything that reads, patches,
//! filters or announces them follows from the same tables. [`body`] reads strict JSON, and [`document`]
//! makes of it what is kept, or an [`error`]. Pure: whoever asks for a write goes through the same.

use std::fmt;

use serde_json::Value;

pub mod attribute;
pub mod body;
pub mod coerce;
pub mod discovery;
pub mod document;
pub mod enterprise_user;
pub mod error;
pub mod group;
pub mod user;

use crate::directories::query::ResourceKind;

pub use attribute::{Attribute, AttributeType, Mutability, Returned, Uniqueness};

/// A URN and the attributes it stands for.
#[derive(Debug)]
pub struct Schema {
    /// The URN that names it.
    pub urn: &'static str,
    /// URNs of drafts and of SCIM 1.1 that providers still send for it.
    pub old_urns: &'static [&'static str],
    /// Its name.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// Its attributes, without those that all resources share.
    pub attributes: &'static [Attribute],
}

impl Schema {
    fn is_named(&self, urn: &str) -> bool {
        self.urn.eq_ignore_ascii_case(urn)
            || self
                .old_urns
                .iter()
                .any(|old| old.eq_ignore_ascii_case(urn))
    }

    /// Finds an attribute by its name, in any case.
    pub fn find(&self, name: &str) -> Option<&'static Attribute> {
        find_in(self.attributes, name)
    }
}

/// The two kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceType {
    /// A person.
    User,
    /// A set of users and groups.
    Group,
}

impl ResourceType {
    /// Both, in the order of discovery.
    pub const ALL: [Self; 2] = [Self::User, Self::Group];

    /// The name: `User` or `Group`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
        }
    }

    /// The last segment of the collection's URL.
    pub const fn endpoint(self) -> &'static str {
        match self {
            Self::User => "Users",
            Self::Group => "Groups",
        }
    }

    /// The core schema.
    pub const fn core(self) -> &'static Schema {
        match self {
            Self::User => &user::SCHEMA,
            Self::Group => &group::SCHEMA,
        }
    }

    /// The extensions that are known attribute by attribute.
    pub const fn extensions(self) -> &'static [&'static Schema] {
        const USER: &[&Schema] = &[&enterprise_user::SCHEMA];
        match self {
            Self::User => USER,
            Self::Group => &[],
        }
    }
}

impl From<ResourceType> for ResourceKind {
    fn from(resource: ResourceType) -> Self {
        match resource {
            ResourceType::User => Self::User,
            ResourceType::Group => Self::Group,
        }
    }
}

impl From<ResourceKind> for ResourceType {
    fn from(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::User => Self::User,
            ResourceKind::Group => Self::Group,
        }
    }
}

static META: [Attribute; 5] = [
    Attribute::string("resourceType", "The name of the resource type.")
        .exact()
        .read_only(),
    Attribute::date_time("created", "When the resource was created.").read_only(),
    Attribute::date_time("lastModified", "When the resource last changed.").read_only(),
    Attribute::reference("location", &["uri"], "The URI of the resource.").read_only(),
    Attribute::string("version", "The version, equal to the ETag.")
        .exact()
        .read_only(),
];

static COMMON: [Attribute; 4] = [
    Attribute::reference("schemas", &["uri"], "The URNs of the schemas in use.")
        .multi()
        .read_only()
        .always_returned(),
    Attribute::string("id", "The id, given by this server.")
        .exact()
        .read_only()
        .always_returned(),
    Attribute::string("externalId", "The id, given by the provider.").exact(),
    Attribute::complex("meta", &META, "What the server knows about the resource.").read_only(),
];

fn find_in(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    attributes
        .iter()
        .find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

/// Finds a core or common attribute by its name, in any case.
pub fn find_attribute(resource: ResourceType, name: &str) -> Option<&'static Attribute> {
    resource
        .core()
        .find(name)
        .or_else(|| find_in(&COMMON, name))
}

/// A name as a client wrote it: `userName`, `name.givenName`, or either behind a URN and a colon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttributePath {
    /// The URN in front.
    pub schema: Option<String>,
    /// The attribute.
    pub name: String,
    /// The sub-attribute.
    pub sub: Option<String>,
}

impl AttributePath {
    /// The path of an unqualified attribute.
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            schema: None,
            name: name.into(),
            sub: None,
        }
    }

    /// Splits a text into URN, name and sub-name; `None` when it has another shape.
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, names) = match text.rsplit_once(':') {
            Some(("", _)) => return None,
            Some((schema, names)) => (Some(schema.to_owned()), names),
            None => (None, text),
        };
        let (name, sub) = match names.split_once('.') {
            Some((name, sub)) => (name, Some(sub)),
            None => (names, None),
        };
        let well_formed = is_name(name)
            && sub.is_none_or(is_name)
            && schema
                .as_deref()
                .is_none_or(|schema| schema.bytes().all(is_urn_byte));
        well_formed.then(|| Self {
            schema,
            name: name.to_owned(),
            sub: sub.map(str::to_owned),
        })
    }
}

/// RFC 7644's `ATTRNAME`, and `$ref`, which that grammar forgot.
fn is_name(text: &str) -> bool {
    let tail = text.strip_prefix('$').unwrap_or(text);
    tail.starts_with(|first: char| first.is_ascii_alphabetic())
        && tail
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_urn_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'[' | b']' | b'(' | b')')
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}:")?;
        }
        f.write_str(&self.name)?;
        self.sub.as_ref().map_or(Ok(()), |sub| write!(f, ".{sub}"))
    }
}

/// A known attribute, and where in a document it lies.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The extension that holds it; `None` for core and common attributes.
    pub extension: Option<&'static Schema>,
    /// The attribute.
    pub attribute: &'static Attribute,
    /// Its part, if the path goes on.
    pub sub: Option<&'static Attribute>,
}

impl Target {
    /// The attribute whose values are compared: the part that was named, else the `value` of a complex
    /// attribute, else the attribute itself.
    pub fn leaf(self) -> Option<&'static Attribute> {
        match (self.sub, self.attribute.kind) {
            (Some(part), _) => Some(part),
            (None, AttributeType::Complex) => self.attribute.value_part(),
            (None, _) => Some(self.attribute),
        }
    }
}

/// Whether the `schemas` of a body name `urn`, in any case.
pub fn names(schemas: &Value, urn: &str) -> bool {
    let urns = schemas.as_array().map_or(&[][..], Vec::as_slice);
    urns.iter()
        .filter_map(Value::as_str)
        .any(|found| found.eq_ignore_ascii_case(urn))
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Resolved {
    /// A known attribute.
    Attribute(Target),
    /// The whole of the core schema, or of a known extension.
    Schema(&'static Schema),
    /// The whole of an extension that is kept without knowing its attributes.
    Foreign(String),
    /// An attribute of such an extension.
    ForeignAttribute(AttributePath),
    /// Nothing that is kept.
    Unknown,
}

/// Finds what a name in a body or in a PATCH path stands for.
pub fn resolve_text(resource: ResourceType, text: &str) -> Resolved {
    if let Some(schema) = find_schema(resource, text) {
        return Resolved::Schema(schema);
    }
    match AttributePath::parse(text) {
        Some(path) => resolve(resource, &path),
        None if is_urn(text) => Resolved::Foreign(text.to_owned()),
        None => Resolved::Unknown,
    }
}

/// The one attribute of an extension that Entra names without its URN: in the filter
/// `id eq "…" and manager eq "…"`, and as the path `manager`.
const NAMED_WITHOUT_URN: &str = "manager";

/// Finds what a path stands for.
pub fn resolve(resource: ResourceType, path: &AttributePath) -> Resolved {
    let Some(urn) = &path.schema else {
        return resolve_bare(resource, path);
    };
    if let Some(schema) = find_schema(resource, urn) {
        if schema.urn == resource.core().urn {
            return known(None, find_attribute(resource, &path.name), path);
        }
        return known(Some(schema), schema.find(&path.name), path);
    }
    let whole = format!("{urn}:{}", path.name);
    if path.sub.is_none()
        && let Some(schema) = find_schema(resource, &whole)
    {
        return Resolved::Schema(schema);
    }
    if !is_urn(&whole) {
        return Resolved::Unknown;
    }
    match urn.rsplit_once(':') {
        Some((versioned, _)) if ends_in_version(versioned) && !ends_in_version(urn) => {
            Resolved::ForeignAttribute(path.clone())
        }
        Some(_) | None => Resolved::Foreign(path.to_string()),
    }
}

/// A name without a URN is the core schema's, but for [`NAMED_WITHOUT_URN`].
fn resolve_bare(resource: ResourceType, path: &AttributePath) -> Resolved {
    if let Some(attribute) = find_attribute(resource, &path.name) {
        return known(None, Some(attribute), path);
    }
    let found = resource
        .extensions()
        .iter()
        .filter(|_| path.name.eq_ignore_ascii_case(NAMED_WITHOUT_URN))
        .find_map(|schema| Some((*schema, schema.find(&path.name)?)));
    match found {
        Some((schema, attribute)) => known(Some(schema), Some(attribute), path),
        None => Resolved::Unknown,
    }
}

fn known(
    extension: Option<&'static Schema>,
    attribute: Option<&'static Attribute>,
    path: &AttributePath,
) -> Resolved {
    let Some(attribute) = attribute else {
        return Resolved::Unknown;
    };
    let Some(sub) = &path.sub else {
        return Resolved::Attribute(Target {
            extension,
            attribute,
            sub: None,
        });
    };
    match attribute.find_part(sub) {
        Some(part) => Resolved::Attribute(Target {
            extension,
            attribute,
            sub: Some(part),
        }),
        None => Resolved::Unknown,
    }
}

fn find_schema(resource: ResourceType, urn: &str) -> Option<&'static Schema> {
    let all = std::iter::once(resource.core()).chain(resource.extensions().iter().copied());
    all.into_iter().find(|schema| schema.is_named(urn))
}

/// Whether a key names an extension rather than an attribute.
pub fn is_urn(text: &str) -> bool {
    text.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("urn:"))
}

/// Schema URNs end in a version and a resource name, `…:2.0:User`. Only behind such a URN is the
/// last part of an unknown name taken for an attribute.
fn ends_in_version(urn: &str) -> bool {
    let last = urn.rsplit(':').next().unwrap_or(urn);
    last.starts_with(|first: char| first.is_ascii_digit())
        && last
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod rfc_tests;

#[cfg(test)]
mod tests {
    use super::{AttributePath, Resolved, ResourceType, find_attribute, resolve_text};

    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    fn target(text: &str) -> String {
        match resolve_text(ResourceType::User, text) {
            Resolved::Attribute(target) => {
                let extension = target.extension.map_or("core", |schema| schema.name);
                let sub = target.sub.map_or("-", |part| part.name);
                format!("{extension} {} {sub}", target.attribute.name)
            }
            Resolved::Schema(schema) => format!("all of {}", schema.name),
            Resolved::Foreign(urn) => format!("foreign {urn}"),
            Resolved::ForeignAttribute(path) => format!("in foreign {path}"),
            Resolved::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(
            find_attribute(ResourceType::User, "USERNAME").unwrap().name,
            "userName"
        );
        assert_eq!(
            find_attribute(ResourceType::Group, "externalid")
                .unwrap()
                .name,
            "externalId"
        );
        assert!(find_attribute(ResourceType::Group, "userName").is_none());
    }

    #[test]
    fn qualified_and_dotted_names_resolve() {
        assert_eq!(target("NAME.givenname"), "core name givenName");
        assert_eq!(
            target("urn:ietf:params:scim:schemas:core:2.0:User:name.familyName"),
            "core name familyName"
        );
        assert_eq!(
            target(&format!("{ENTERPRISE}:manager.displayName")),
            "EnterpriseUser manager displayName"
        );
        assert_eq!(target(&ENTERPRISE.to_uppercase()), "all of EnterpriseUser");
        assert_eq!(
            target("urn:scim:schemas:extension:enterprise:2.0"),
            "all of EnterpriseUser"
        );
        assert_eq!(
            target("urn:scim:schemas:extension:enterprise:1.0:department"),
            "EnterpriseUser department -"
        );
        assert_eq!(target("employeeNumber"), "unknown");
        assert_eq!(target("name.nothing"), "unknown");
        assert_eq!(
            target("http://schemas.microsoft.com/2006/11/Group"),
            "unknown"
        );
    }

    #[test]
    fn foreign_extensions_are_told_from_their_attributes() {
        assert_eq!(target("urn:acme:2.0:User"), "foreign urn:acme:2.0:User");
        assert_eq!(
            target("urn:acme:2.0:User:desk.floor"),
            "in foreign urn:acme:2.0:User:desk.floor"
        );
        assert_eq!(
            target("urn:acme:2.0:User:desk"),
            "in foreign urn:acme:2.0:User:desk"
        );
        assert_eq!(target("urn:acme:custom"), "foreign urn:acme:custom");
        assert_eq!(target("urn:x"), "foreign urn:x");
    }

    #[test]
    fn malformed_names_do_not_parse() {
        for text in [
            "", ".", "a.", ".a", "a.b.c", ":a", "urn:", "1a", "a b", "a[", "$", "a:b:", "é",
        ] {
            assert_eq!(AttributePath::parse(text), None, "{text}");
        }
        assert_eq!(
            AttributePath::parse("members.$ref").unwrap().sub.as_deref(),
            Some("$ref")
        );
    }
}
