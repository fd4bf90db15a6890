//! The enterprise extension of `User` (RFC 7643 sections 4.3 and 8.7.1).

use super::Schema;
use super::attribute::Attribute;

/// The URN of the enterprise extension.
pub const URN: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// The enterprise extension.
pub static SCHEMA: Schema = Schema {
    urn: URN,
    old_urns: &[
        "urn:scim:schemas:extension:enterprise:2.0",
        "urn:scim:schemas:extension:enterprise:1.0",
        "urn:scim:schemas:extension:enterprise:2.0:User",
    ],
    name: "EnterpriseUser",
    description: "Enterprise User",
    attributes: &ATTRIBUTES,
};

/// `displayName` is read-only in RFC 7643, for servers that look the manager up. Here a manager may
/// be an id of the provider's own that names no user, so what the provider says is kept.
static MANAGER: [Attribute; 3] = [
    Attribute::string("value", "The id of the manager.").exact(),
    Attribute::reference("$ref", &["User"], "The URI of the manager."),
    Attribute::string("displayName", "The name of the manager, as it was sent."),
];

static ATTRIBUTES: [Attribute; 6] = [
    Attribute::string("employeeNumber", "The number of the employee."),
    Attribute::string("costCenter", "The cost center."),
    Attribute::string("organization", "The organization."),
    Attribute::string("division", "The division."),
    Attribute::string("department", "The department."),
    Attribute::complex("manager", &MANAGER, "The manager of the user."),
];
