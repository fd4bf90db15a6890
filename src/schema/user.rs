//! The core `User` schema (RFC 7643 sections 4.1 and 8.7.1).

use super::Schema;
use super::attribute::Attribute;

/// The URN of the core `User` schema.
pub const URN: &str = "urn:ietf:params:scim:schemas:core:2.0:User";

/// The core `User` schema.
pub static SCHEMA: Schema = Schema {
    urn: URN,
    old_urns: &[
        "urn:scim:schemas:core:2.0",
        "urn:scim:schemas:core:1.0",
        "urn:scim:schemas:core:2.0:User",
    ],
    name: "User",
    description: "User Account",
    attributes: &ATTRIBUTES,
};

const WORK_HOME_OTHER: &[&str] = &["work", "home", "other"];

/// The four parts that nearly every multi-valued attribute of a user has.
const fn labelled(value: Attribute, types: &'static [&'static str]) -> [Attribute; 4] {
    [
        value,
        Attribute::string("display", "A name for the value, to show to people."),
        Attribute::string("type", "What the value is for.").canonical(types),
        Attribute::boolean(
            "primary",
            "Whether this is the preferred value; true at most once.",
        ),
    ]
}

static NAME: [Attribute; 6] = [
    Attribute::string("formatted", "The full name, ready to show."),
    Attribute::string("familyName", "The family name, or last name."),
    Attribute::string("givenName", "The given name, or first name."),
    Attribute::string("middleName", "The middle names."),
    Attribute::string("honorificPrefix", "Titles in front of the name."),
    Attribute::string("honorificSuffix", "Suffixes behind the name."),
];

static EMAIL: [Attribute; 4] = labelled(
    Attribute::string("value", "The email address."),
    WORK_HOME_OTHER,
);

static PHONE: [Attribute; 4] = labelled(
    Attribute::string("value", "The phone number, kept as it was sent."),
    &["work", "home", "mobile", "fax", "pager", "other"],
);

static IM: [Attribute; 4] = labelled(
    Attribute::string("value", "The instant messaging address."),
    &["aim", "gtalk", "icq", "xmpp", "msn", "skype", "qq", "yahoo"],
);

static PHOTO: [Attribute; 4] = labelled(
    Attribute::reference("value", &["external"], "The URL of the photo."),
    &["photo", "thumbnail"],
);

static ENTITLEMENT: [Attribute; 4] = labelled(Attribute::string("value", "The entitlement."), &[]);

static ROLE: [Attribute; 4] = labelled(Attribute::string("value", "The role."), &[]);

static CERTIFICATE: [Attribute; 4] = labelled(
    Attribute::binary("value", "The X.509 certificate in base64."),
    &[],
);

static ADDRESS: [Attribute; 8] = [
    Attribute::string("formatted", "The full address, ready to show or to print."),
    Attribute::string("streetAddress", "Street, house number, post office box."),
    Attribute::string("locality", "City or locality."),
    Attribute::string("region", "State or region."),
    Attribute::string("postalCode", "Postal code."),
    Attribute::string("country", "Country, as ISO 3166-1 alpha-2."),
    Attribute::string("type", "What the address is for.").canonical(WORK_HOME_OTHER),
    Attribute::boolean(
        "primary",
        "Whether this is the preferred address; true at most once.",
    ),
];

static GROUP: [Attribute; 4] = [
    Attribute::string("value", "The id of the group.")
        .exact()
        .read_only(),
    Attribute::reference("$ref", &["Group"], "The URI of the group.").read_only(),
    Attribute::string("display", "The name of the group.").read_only(),
    Attribute::string("type", "Whether the membership is direct.")
        .canonical(&["direct", "indirect"])
        .read_only(),
];

static ATTRIBUTES: [Attribute; 21] = [
    Attribute::string(
        "userName",
        "The name the user signs in with; unique without case.",
    )
    .required()
    .unique(),
    Attribute::complex("name", &NAME, "The parts of the user's name."),
    Attribute::string("displayName", "The name to show to people."),
    Attribute::string("nickName", "The casual name."),
    Attribute::reference(
        "profileUrl",
        &["external"],
        "The URL of the user's profile page.",
    ),
    Attribute::string("title", "The job title."),
    Attribute::string("userType", "How the user relates to the organization."),
    Attribute::string(
        "preferredLanguage",
        "The preferred language, as in Accept-Language.",
    ),
    Attribute::string("locale", "The locale for dates, numbers and currencies."),
    Attribute::string("timezone", "The time zone, by its IANA name."),
    Attribute::boolean("active", "Whether the user is enabled."),
    Attribute::string("password", "Taken and thrown away at once.")
        .exact()
        .write_only(),
    Attribute::complex("emails", &EMAIL, "Email addresses.").multi(),
    Attribute::complex("phoneNumbers", &PHONE, "Phone numbers.").multi(),
    Attribute::complex("ims", &IM, "Instant messaging addresses.").multi(),
    Attribute::complex("photos", &PHOTO, "Photos, as URLs.").multi(),
    Attribute::complex("addresses", &ADDRESS, "Postal addresses.").multi(),
    Attribute::complex("groups", &GROUP, "The groups the user is a member of.")
        .multi()
        .read_only(),
    Attribute::complex(
        "entitlements",
        &ENTITLEMENT,
        "What the user is entitled to.",
    )
    .multi(),
    Attribute::complex("roles", &ROLE, "The roles of the user.").multi(),
    Attribute::complex(
        "x509Certificates",
        &CERTIFICATE,
        "Certificates of the user.",
    )
    .multi(),
];
