//! What became of a refused request, in plain words. Pure.
//!
//! [`of`] tells the [`Situation`] from what was asked and answered; [`Situation::explain`] says what
//! happened, with the facts of the case, and what to do about it, for the provider in question.

mod catalogue;

pub use catalogue::Situation;

use catalogue::Situation as S;

use crate::clock;
use crate::storage::tables::{directories, scim_requests, scim_tokens};

/// What is known about a request when its situation is decided.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// What follows the directory's base URL in the path.
    pub endpoint: &'a str,
    /// The HTTP status.
    pub status: u16,
    /// The `scimType`; empty if there is none.
    pub scim_type: &'a str,
    /// The text of the error; empty if there is none.
    pub detail: &'a str,
    /// What its token is.
    pub token: TokenState,
    /// Whether the directory has been deleted.
    pub is_deleted: bool,
}

/// What the token of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It opened the directory.
    Valid,
    /// There was none.
    Missing,
    /// There were several `Authorization` headers.
    Several,
    /// It came by another scheme than `Bearer`.
    OtherScheme,
    /// It is an API key.
    ApiKey,
    /// It is cut off or mistyped.
    Damaged,
    /// It is no token of ours.
    Foreign,
    /// It has the form of one, and was never made here.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It has expired.
    Expired,
    /// It is another directory's.
    Elsewhere,
}

/// The situation of a request; `None` if it succeeded.
pub fn of(seen: &Seen<'_>) -> Option<Situation> {
    Some(match seen.status {
        0..400 => return None,
        400 => of_bad_request(seen),
        401 => of_refused_token(seen),
        403 if seen.detail.contains("managed by hand") => S::ManagedByHand,
        403 => S::DiscoveryFilter,
        404 => of_nothing_there(seen),
        405 if seen.endpoint.is_empty() => S::BaseUrlWritten,
        405 => S::MethodNotAllowed,
        408 => S::BodyTooSlow,
        409 if seen.scim_type.is_empty() => S::Conflict,
        409 if is_about_groups(seen) => S::GroupTaken,
        409 => S::UserNameTaken,
        412 => S::PreconditionFailed,
        413 if seen.scim_type == "tooMany" => S::TooManyOperations,
        413 => S::BodyTooLarge,
        415 if seen.detail.contains("compressed") => S::BodyCompressed,
        415 => S::ContentType,
        429 if seen.token == TokenState::Valid => S::TooManyRequests,
        429 => S::TooManyWrongTokens,
        501 => S::MeNotServed,
        503 => of_unavailable(seen),
        500.. => S::ServerFailed,
        402..=499 => S::Refused,
    })
}

fn of_refused_token(seen: &Seen<'_>) -> Situation {
    if seen.is_deleted {
        return S::DirectoryDeleted;
    }
    match seen.token {
        TokenState::Missing => S::TokenMissing,
        TokenState::Several => S::TokenSeveral,
        TokenState::OtherScheme => S::SchemeNotBearer,
        TokenState::ApiKey => S::ApiKeySent,
        TokenState::Damaged => S::TokenDamaged,
        TokenState::Foreign => S::TokenForeign,
        TokenState::Unknown => S::TokenUnknown,
        // It opened the directory and was revoked before the write.
        TokenState::Revoked | TokenState::Valid => S::TokenRevoked,
        TokenState::Expired => S::TokenExpired,
        TokenState::Elsewhere => S::TokenElsewhere,
    }
}

fn of_nothing_there(seen: &Seen<'_>) -> Situation {
    if !seen.detail.contains("no such endpoint") {
        return if seen.detail.contains("no such user") {
            S::UserNotFound
        } else if seen.detail.contains("no such group") {
            S::GroupNotFound
        } else {
            S::DocumentNotFound
        };
    }
    let mut segments = seen.endpoint.split('/').skip(1);
    let repeats = segments.any(|segment| ["scim", "v2", "v1"].contains(&segment));
    if repeats {
        S::BaseUrlRepeated
    } else {
        S::EndpointUnknown
    }
}

fn of_unavailable(seen: &Seen<'_>) -> Situation {
    if seen.detail.contains("going to be deleted") {
        S::DirectoryDeleting
    } else if seen.detail.contains("refused at present") {
        S::WritesPaused
    } else if seen.detail.contains("has to wait for those") {
        S::BodiesWait
    } else {
        S::Unavailable
    }
}

fn of_bad_request(seen: &Seen<'_>) -> Situation {
    let says = |text: &str| seen.detail.contains(text);
    match seen.scim_type {
        "invalidFilter" => S::FilterInvalid,
        "invalidPath" => S::PathInvalid,
        "noTarget" => S::NoTarget,
        "mutability" if says("is required") => S::RequiredRemoved,
        "mutability" => S::ReadOnly,
        "invalidCursor" => S::CursorInvalid,
        "invalidCount" => S::CountInvalid,
        "tooMany" if says("too broad") => S::FilterTooBroad,
        "tooMany" => S::TooManyValues,
        "invalidSyntax" if says("body is empty") => S::BodyEmpty,
        "invalidSyntax" if says("not valid JSON") || says("not an object") => S::NotJson,
        "invalidSyntax" => S::SyntaxInvalid,
        "invalidValue" => of_invalid_value(seen),
        "" if says("could not be read to its end") => S::BodyBroken,
        _ => S::Refused,
    }
}

fn of_invalid_value(seen: &Seen<'_>) -> Situation {
    let says = |text: &str| seen.detail.contains(text);
    if says("needs a 'userName'") {
        S::UserNameMissing
    } else if says("needs a 'displayName'") {
        S::DisplayNameMissing
    } else if says("a member of itself") {
        S::GroupsInCircle
    } else if says("would lie in one another") || says("would be connected") {
        S::GroupsTooNested
    } else if says("longer than") || says("larger than") {
        S::ValueTooLong
    } else if says("'startIndex'") || says("'count'") || says("'sortBy'") || says("'sortOrder'") {
        S::QueryInvalid
    } else if says("'emails") {
        S::EmailInvalid
    } else if says("member") {
        S::MemberInvalid
    } else {
        S::ValueInvalid
    }
}

fn is_about_groups(seen: &Seen<'_>) -> bool {
    seen.endpoint.starts_with("/Groups") || seen.detail.contains("group of this directory")
}

/// What somebody is told about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The situation.
    pub situation: Situation,
    /// What happened.
    pub text: String,
    /// What to do.
    pub action: String,
}

/// What an explanation speaks of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The request.
    pub request: &'a scim_requests::Model,
    /// Its directory.
    pub directory: &'a directories::Model,
    /// Its token, if it is the directory's.
    pub token: Option<&'a scim_tokens::Model>,
    /// The directory's SCIM base URL.
    pub base_url: &'a str,
}

impl Situation {
    /// Explains the situation by the facts.
    pub fn explain(self, facts: &Facts<'_>) -> Explanation {
        let words = self.words();
        let action = match facts.directory.kind.as_str() {
            "okta scim v2.0" => words.okta,
            "azure scim v2.0" => words.entra,
            _ => None,
        };
        Explanation {
            situation: self,
            text: facts.fill(words.text),
            action: facts.fill(action.unwrap_or(words.action)),
        }
    }
}

impl Facts<'_> {
    /// The text with the facts in their places.
    fn fill(&self, text: &str) -> String {
        let on =
            |at: Option<_>| at.map_or_else(String::new, |at| format!(" on {}", clock::text(at)));
        let suffix = self.request.token_suffix.as_deref();
        let suffix = suffix.or(self.token.map(|token| token.suffix.as_str()));
        let ending = suffix.map_or_else(String::new, |suffix| format!(" that ends in …{suffix}"));
        let detail = self.request.detail.as_deref().unwrap_or("");
        text.replace("{ending}", &ending)
            .replace(
                "{revoked}",
                &on(self.token.and_then(|token| token.revoked_at)),
            )
            .replace(
                "{expired}",
                &on(self.token.and_then(|token| token.expires_at)),
            )
            .replace("{directory}", &self.directory.name)
            .replace("{base_url}", self.base_url)
            .replace("{method}", &self.request.method)
            .replace("{path}", &self.request.path)
            .replace("{detail}", detail)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_situation_has_a_code_of_its_own_and_says_what_to_do() {
        let codes: BTreeSet<&str> = S::ALL.iter().map(|situation| situation.code()).collect();
        assert_eq!(codes.len(), S::ALL.len());
        for situation in S::ALL {
            let words = situation.words();
            assert_eq!(S::parse(situation.code()), Some(*situation));
            assert!(
                words.text.ends_with(['.', '}']) && words.action.ends_with('.'),
                "{situation:?}"
            );
        }
    }

    #[test]
    fn whatever_was_answered_has_a_situation_unless_it_is_a_success() {
        for status in 100..600 {
            let seen = Seen {
                method: "GET",
                endpoint: "/Users",
                status,
                scim_type: "",
                detail: "",
                token: TokenState::Valid,
                is_deleted: false,
            };
            assert_eq!(of(&seen).is_some(), status >= 400, "{status}");
        }
    }
}
