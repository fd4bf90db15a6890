//! All situations and their words.
//!
//! Words are for people in an IT department and for those who support them: what happened, then what to
//! do, and for Okta and Entra ID where it differs. Facts go where a text has `{ending}` (of the token),
//! `{revoked}` and `{expired}` (when), `{directory}` (its name), `{base_url}`, `{method}`, `{path}` and
//! `{detail}` (what the provider was answered).

/// The words for a situation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// What happened.
    pub(super) text: &'static str,
    /// What to do.
    pub(super) action: &'static str,
    /// What to do with Okta, where that differs.
    pub(super) okta: Option<&'static str>,
    /// What to do with Entra ID, where that differs.
    pub(super) entra: Option<&'static str>,
}

/// Nothing, or the one text given.
macro_rules! optional {
    () => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}

/// Declares the situations with their codes and words.
macro_rules! situations {
    ($($name:ident $code:literal {
        text: $text:literal,
        action: $action:literal
        $(, okta: $okta:literal)? $(, entra: $entra:literal)? $(,)?
    })*) => {
        /// What became of a refused request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Situation {
            $(#[doc = concat!("`", $code, "`")] $name,)*
        }

        impl Situation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name on the wire and in the database.
            pub fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// Reads the name.
            pub fn parse(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|situation| situation.code() == code)
            }

            pub(super) fn words(self) -> Words {
                match self {
                    $(Self::$name => Words {
                        text: $text,
                        action: $action,
                        okta: optional!($($okta)?),
                        entra: optional!($($entra)?),
                    },)*
                }
            }
        }
    };
}

situations! {
    TokenMissing "token_missing" {
        text: "The request came without a token.",
        action: "Enter a SCIM token of the directory \"{directory}\" in the provider's settings.",
        okta: "In Okta, open the app's Provisioning tab, then Integration, and enter the token.",
        entra: "In Entra ID, open the app's Provisioning, then Admin Credentials, and enter the token as Secret Token.",
    }
    TokenSeveral "token_several" {
        text: "The request had several Authorization headers, so that it is not clear which token counts.",
        action: "Let the provider, or the proxy between, send one Authorization header.",
    }
    SchemeNotBearer "scheme_not_bearer" {
        text: "The request tried to authenticate by another scheme than Bearer, such as Basic.",
        action: "Choose a bearer token (also called OAuth bearer token or HTTP header) in the provider's settings.",
        okta: "In Okta, set the authentication mode to HTTP Header.",
        entra: "In Entra ID, set the authentication method to Bearer Authentication and enter the Secret Token.",
    }
    ApiKeySent "api_key_sent" {
        text: "The request came with an API key (sk_…), which opens no directory.",
        action: "Enter a SCIM token of the directory (rc_scim_…) in its place, and revoke the key if others have seen it.",
    }
    TokenDamaged "token_damaged" {
        text: "The token that was sent is not whole: its checksum does not fit, so it was cut off or mistyped.",
        action: "Copy the whole token again, 57 characters that start with rc_scim_; if it is lost, make a new one.",
    }
    TokenForeign "token_foreign" {
        text: "What was sent as a token was not made by this server.",
        action: "Enter a SCIM token of the directory \"{directory}\", which starts with rc_scim_.",
    }
    TokenUnknown "token_unknown" {
        text: "The token that was sent has the right form, but is none of this server's.",
        action: "Make a new token for the directory \"{directory}\" and enter it. A token of another installation, such as a test system, does not work here.",
    }
    TokenRevoked "token_revoked" {
        text: "The token{ending} was revoked{revoked}.",
        action: "Make a new token and enter it in the provider's settings.",
        okta: "Make a new token and enter it in Okta: the app's Provisioning tab, Integration, Edit.",
        entra: "Make a new token, enter it in Entra ID as Secret Token, and choose Test Connection. If provisioning is in quarantine, restart it.",
    }
    TokenExpired "token_expired" {
        text: "The token{ending} expired{expired}.",
        action: "Make a new token and enter it in the provider's settings.",
        okta: "Make a new token and enter it in Okta: the app's Provisioning tab, Integration, Edit.",
        entra: "Make a new token, enter it in Entra ID as Secret Token, and choose Test Connection. If provisioning is in quarantine, restart it.",
    }
    TokenElsewhere "token_elsewhere" {
        text: "The token{ending} belongs to another directory than \"{directory}\".",
        action: "Use a token together with the base URL of its own directory; that of \"{directory}\" is {base_url}.",
    }
    DirectoryDeleted "directory_deleted" {
        text: "The directory \"{directory}\" has been deleted.",
        action: "Switch provisioning off in the provider, or connect it to another directory.",
    }
    DirectoryDeleting "directory_deleting" {
        text: "The directory \"{directory}\" is going to be deleted, so that nothing is written to it.",
        action: "Restore the directory if the provider is still needed; else switch provisioning off there.",
    }
    WritesPaused "writes_paused" {
        text: "Writes to the directory \"{directory}\" are paused. {detail}",
        action: "Let writes in again when you are ready. The provider repeats what was refused by itself.",
        okta: "Let writes in again when you are ready, then retry the failed tasks in Okta (Dashboard, Tasks).",
    }
    ManagedByHand "managed_by_hand" {
        text: "The directory \"{directory}\" is managed by hand, so that the provider may not write to it. {detail}",
        action: "Set the directory's management to provider, or switch provisioning off in the provider.",
    }
    UserNameTaken "user_name_taken" {
        text: "Another user of the directory has this userName already (case does not count).",
        action: "Update or delete the existing user, or correct the mapping that gives two people one userName.",
        okta: "In Okta, import the existing user and match it with the person, or correct the username mapping.",
        entra: "In Entra ID, check that userName is a matching attribute, so that the existing user is found before one is created.",
    }
    GroupTaken "group_taken" {
        text: "Another group of the directory has this externalId, or this displayName, already.",
        action: "Rename or delete one of the two groups.",
        okta: "In Okta, link the pushed group to the existing one, or rename one of them.",
    }
    Conflict "conflict" {
        text: "The request contradicts itself or the state of the directory: {detail}",
        action: "Correct the request as its answer says.",
    }
    UserNameMissing "user_name_missing" {
        text: "The user has no userName, or an empty one.",
        action: "Map userName to an attribute that is filled for everybody, such as the login name or e-mail address.",
        entra: "In Entra ID, map userName to userPrincipalName under Provisioning, Mappings.",
    }
    DisplayNameMissing "display_name_missing" {
        text: "The group has no displayName, or an empty one.",
        action: "Give the group a name, or correct the mapping of displayName.",
    }
    EmailInvalid "email_invalid" {
        text: "The e-mail addresses of the user do not have the form that SCIM wants: {detail}",
        action: "Map emails as a list of objects with a value, a type and perhaps primary.",
    }
    ValueInvalid "value_invalid" {
        text: "A value is not of the kind that its attribute has: {detail}",
        action: "Correct the attribute's mapping in the provider.",
    }
    ValueTooLong "value_too_long" {
        text: "A value is too long: {detail}",
        action: "Shorten it, or take the attribute out of the provider's mapping.",
    }
    MemberInvalid "member_invalid" {
        text: "A member of the group does not have the form that SCIM wants: {detail}",
        action: "Send each member as an object whose value is the id that this server gave to the user or group.",
    }
    GroupsInCircle "groups_in_circle" {
        text: "The group would be a member of itself, directly or through other groups.",
        action: "Take the group out of the groups that it contains, in the provider.",
    }
    GroupsTooNested "groups_too_nested" {
        text: "Too many groups would lie in one another: {detail}",
        action: "Nest fewer groups, or make their users direct members.",
    }
    PathInvalid "path_invalid" {
        text: "The path of a change names nothing that SCIM has: {detail}",
        action: "Correct the target attribute of the mapping in the provider.",
        entra: "In Entra ID, correct the target attribute under Provisioning, Mappings, Show advanced options.",
    }
    NoTarget "no_target" {
        text: "A change is for a value that is not there: {detail}",
        action: "Add the value first, or let the provider send it whole (for example by a full synchronization).",
    }
    ReadOnly "read_only" {
        text: "A change is for something that only this server sets: {detail}",
        action: "Take the attribute out of the provider's mapping.",
    }
    RequiredRemoved "required_removed" {
        text: "An attribute that must have a value was to be removed: {detail}",
        action: "Map the attribute to something that is filled for everybody.",
    }
    FilterInvalid "filter_invalid" {
        text: "The filter of the query cannot be read: {detail}",
        action: "Correct the filter, or the matching attribute from which the provider makes it.",
        entra: "In Entra ID, use userName, externalId or emails[type eq \"work\"].value as matching attributes.",
    }
    FilterTooBroad "filter_too_broad" {
        text: "The query would have to look at more of the directory than one request may.",
        action: "Filter by userName, externalId, displayName or e-mail address with eq.",
    }
    QueryInvalid "query_invalid" {
        text: "A parameter of the query has a value that it cannot have: {detail}",
        action: "Correct the parameter.",
    }
    CursorInvalid "cursor_invalid" {
        text: "The cursor of the query does not belong to this list.",
        action: "Begin the list again with an empty cursor.",
    }
    CountInvalid "count_invalid" {
        text: "The page size does not fit: {detail}",
        action: "Ask for pages of the same size from the first to the last, of 1,000 at most.",
    }
    TooManyOperations "too_many_operations" {
        text: "The request has more operations than one may have: {detail}",
        action: "Send them in several requests.",
    }
    TooManyValues "too_many_values" {
        text: "The request has more values than one may have: {detail}",
        action: "Send fewer values at a time.",
    }
    BodyTooLarge "body_too_large" {
        text: "The body of the request is larger than this server takes: {detail}",
        action: "Send less at a time. For very large groups, raise limits.scim_group_body_bytes.",
    }
    BodyEmpty "body_empty" {
        text: "The request has no body, although it needs one.",
        action: "Look for what takes the body away: a proxy, a redirect, or the client itself.",
    }
    NotJson "not_json" {
        text: "The body of the request is not a JSON object: {detail}",
        action: "Look for what spoils the body: a proxy, or a template with unescaped characters.",
    }
    SyntaxInvalid "syntax_invalid" {
        text: "The body is JSON, but not what this request needs: {detail}",
        action: "Correct the request as its answer says. If the provider made it by itself, tell its maker.",
    }
    BodyBroken "body_broken" {
        text: "The connection broke before the body of the request had arrived.",
        action: "If it happens often, look at the network and the proxies between. Providers repeat such requests.",
    }
    BodyTooSlow "body_too_slow" {
        text: "The body of the request did not arrive in time.",
        action: "If it happens often, look at the network and the proxies between. Providers repeat such requests.",
    }
    BodyCompressed "body_compressed" {
        text: "The body of the request is compressed, which this server does not read.",
        action: "Send it without Content-Encoding.",
    }
    ContentType "content_type" {
        text: "The request says that its body is something else than JSON.",
        action: "Send it as Content-Type application/scim+json.",
    }
    BaseUrlRepeated "base_url_repeated" {
        text: "The provider asked for {path}, which is no endpoint: the base URL has a part too many at its end.",
        action: "Enter {base_url} as the base URL, with nothing behind it: the provider adds /Users and /Groups itself.",
        okta: "In Okta, enter {base_url} as the SCIM connector base URL, with nothing behind it.",
        entra: "In Entra ID, enter {base_url} as the Tenant URL, with nothing behind it.",
    }
    EndpointUnknown "endpoint_unknown" {
        text: "The provider asked for {path}, which is no endpoint of SCIM.",
        action: "Compare the base URL in the provider's settings with {base_url}.",
    }
    BaseUrlWritten "base_url_written" {
        text: "The provider sent a {method} to the base URL itself, where nothing can be written.",
        action: "Let the provider write to {base_url}/Users and {base_url}/Groups.",
    }
    MethodNotAllowed "method_not_allowed" {
        text: "The provider sent a {method} to {path}, which does not take it.",
        action: "Compare the base URL in the provider's settings with {base_url}. If it is right, tell the provider's maker.",
    }
    MeNotServed "me_not_served" {
        text: "The provider asked for /Me, but its token stands for the provider itself and for no user.",
        action: "Use /Users with an id or a filter.",
    }
    UserNotFound "user_not_found" {
        text: "There is no user with this id in the directory; it may have been deleted.",
        action: "Let the provider look the user up again by userName, for example by a full synchronization.",
        okta: "In Okta, unassign the person from the app and assign it again.",
        entra: "In Entra ID, restart provisioning, which looks everybody up anew.",
    }
    GroupNotFound "group_not_found" {
        text: "There is no group with this id in the directory; it may have been deleted.",
        action: "Let the provider look the group up again by its name, for example by a full synchronization.",
        okta: "In Okta, unlink the pushed group and push it again.",
        entra: "In Entra ID, restart provisioning, which looks every group up anew.",
    }
    DocumentNotFound "document_not_found" {
        text: "There is no schema or resource type of this name.",
        action: "Ask for /Schemas or /ResourceTypes to see which there are.",
    }
    DiscoveryFilter "discovery_filter" {
        text: "Schemas and resource types were asked for with a filter, which SCIM forbids.",
        action: "Leave the filter out.",
    }
    PreconditionFailed "precondition_failed" {
        text: "The resource had changed since the provider read it, so that its change was not made.",
        action: "Nothing, if the provider reads it again and repeats the change.",
    }
    TooManyRequests "too_many_requests" {
        text: "The provider sent more requests at a time than this directory may.",
        action: "Nothing, if the provider waits and repeats them. If it goes on, raise limits.scim_requests_per_second.",
    }
    TooManyWrongTokens "too_many_wrong_tokens" {
        text: "Too many requests came from one address with a token that does not open this directory, and this one as well.",
        action: "Enter a valid token in the provider's settings; a request with one is never refused for this.",
    }
    BodiesWait "bodies_wait" {
        text: "So many bodies were under way that there was no room for another one.",
        action: "Nothing, if the provider repeats the request. If it goes on, raise limits.bodies_in_flight_bytes.",
    }
    Unavailable "unavailable" {
        text: "The server could not answer at that moment: its database was busy, or it was stopping.",
        action: "Nothing, if the provider repeats the request. If it goes on, look at the server's log and its database.",
    }
    ServerFailed "server_failed" {
        text: "The server failed to answer.",
        action: "Look for this request's id in the server's log.",
    }
    Refused "refused" {
        text: "The request was refused: {detail}",
        action: "Correct the request as its answer says.",
    }
}
