//! The core `Group` schema (RFC 7643 sections 4.2 and 8.7.1).

use super::Schema;
use super::attribute::Attribute;

/// The URN of the core `Group` schema.
pub const URN: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// The core `Group` schema.
pub static SCHEMA: Schema = Schema {
    urn: URN,
    old_urns: &[
        "urn:scim:schemas:core:2.0",
        "urn:scim:schemas:core:1.0",
        "urn:scim:schemas:core:2.0:Group",
    ],
    name: "Group",
    description: "Group",
    attributes: &ATTRIBUTES,
};

/// The multi-valued attribute that is kept as rows of its own and never in a group's document.
pub const MEMBERS: &str = "members";

static MEMBER: [Attribute; 4] = [
    Attribute::string("value", "The id of the member.")
        .exact()
        .immutable(),
    Attribute::reference("$ref", &["User", "Group"], "The URI of the member.").immutable(),
    Attribute::string("type", "Whether the member is a user or a group.")
        .canonical(&["User", "Group"])
        .immutable(),
    Attribute::string("display", "The name of the member.").immutable(),
];

static ATTRIBUTES: [Attribute; 2] = [
    Attribute::string("displayName", "The name of the group.").required(),
    Attribute::complex(MEMBERS, &MEMBER, "The members of the group.").multi(),
];
