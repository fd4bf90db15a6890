//! What an index answers, and how it is written in SQL.

use crate::ids::ResourceId;
use crate::storage::sql::Sql;

use super::ResourceKind;

/// Something that an index answers; keys are folded by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// The id of the resource.
    Id(ResourceId),
    /// One of these ids.
    Ids(Vec<ResourceId>),
    /// What a key column holds.
    Key(Key, Test),
    /// A direct member of the group.
    Member(ResourceId),
    /// All terms of at least one list hold.
    Any(Vec<Vec<Term>>),
    /// Nothing matches.
    Nothing,
}

/// A column with an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The folded userName.
    UserName,
    /// The provider's own id, with case.
    ExternalId,
    /// The folded displayName.
    DisplayName,
    /// One of the folded e-mail addresses.
    Email,
}

/// What a key must be. Texts are ordered by their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The text itself.
    Equal(String),
    /// A text that starts with this one.
    StartsWith(String),
    /// A text behind this one.
    Greater(String),
    /// This text or one behind it.
    GreaterOrEqual(String),
    /// A text before this one.
    Less(String),
    /// This text or one before it.
    LessOrEqual(String),
}

/// Appends ` AND …` for each term to a statement about rows `r` of the directory that the SQL
/// expression `directory` names.
pub(super) fn push_all(sql: &mut Sql, kind: ResourceKind, directory: &str, terms: &[Term]) {
    for term in terms {
        sql.push(" AND ");
        push(sql, kind, directory, term);
    }
}

fn push(sql: &mut Sql, kind: ResourceKind, directory: &str, term: &Term) {
    match (kind, term) {
        (_, Term::Id(id)) => {
            sql.push("r.id = ").bind(*id);
        }
        (_, Term::Ids(ids)) => push_ids(sql, ids),
        (ResourceKind::User, Term::Key(Key::Email, test)) => push_email(sql, directory, test),
        (ResourceKind::User, Term::Key(key, test)) => push_test(sql, column(*key), test),
        (ResourceKind::Group, Term::Key(key @ (Key::ExternalId | Key::DisplayName), test)) => {
            push_test(sql, column(*key), test);
        }
        (ResourceKind::Group, Term::Member(id)) => push_member(sql, directory, *id),
        (_, Term::Any(lists)) => push_any(sql, kind, directory, lists),
        (_, Term::Nothing)
        | (ResourceKind::User, Term::Member(_))
        | (ResourceKind::Group, Term::Key(Key::UserName | Key::Email, _)) => {
            sql.push("1 = 0");
        }
    }
}

fn push_ids(sql: &mut Sql, ids: &[ResourceId]) {
    sql.push("r.id IN (");
    for (index, id) in ids.iter().enumerate() {
        sql.push(if index == 0 { "" } else { ", " }).bind(*id);
    }
    sql.push(")");
}

fn column(key: Key) -> &'static str {
    match key {
        Key::UserName => "r.user_name_key",
        Key::ExternalId => "r.external_id",
        Key::DisplayName => "r.display_name_key",
        Key::Email => "u.email_key",
    }
}

fn push_any(sql: &mut Sql, kind: ResourceKind, directory: &str, lists: &[Vec<Term>]) {
    sql.push("(1 = 0");
    for terms in lists {
        sql.push(" OR (1 = 1");
        push_all(sql, kind, directory, terms);
        sql.push(")");
    }
    sql.push(")");
}

fn push_test(sql: &mut Sql, column: &str, test: &Test) {
    let (operator, text) = match test {
        Test::Equal(text) => (" = ", text),
        Test::Greater(text) => (" > ", text),
        Test::GreaterOrEqual(text) => (" >= ", text),
        Test::Less(text) => (" < ", text),
        Test::LessOrEqual(text) => (" <= ", text),
        Test::StartsWith(text) => {
            if let Some(end) = end_of_prefix(text) {
                sql.push(column).push(" < ").bind(end).push(" AND ");
            }
            (" >= ", text)
        }
    };
    sql.push(column).push(operator).bind(text.as_str());
}

/// The first text behind all that start with `prefix`; `None` if there is no such text.
fn end_of_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Surrogates are no characters, and are stepped over.
        let next = if last == '\u{D7FF}' {
            Some('\u{E000}')
        } else {
            char::from_u32(u32::from(last) + 1)
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn push_email(sql: &mut Sql, directory: &str, test: &Test) {
    // One list of ids from both tables: PostgreSQL uses no index for an OR with a subquery in it.
    sql.push("r.id IN (SELECT u.id FROM users u WHERE u.directory_id = ")
        .push(directory)
        .push(" AND ");
    push_test(sql, column(Key::Email), test);
    sql.push(" UNION ALL SELECT e.user_id FROM user_emails e WHERE e.directory_id = ")
        .push(directory)
        .push(" AND ");
    push_test(sql, "e.email_key", test);
    sql.push(")");
}

fn push_member(sql: &mut Sql, directory: &str, id: ResourceId) {
    sql.push("r.id IN (SELECT m.group_id FROM memberships m WHERE m.directory_id = ")
        .push(directory)
        .push(" AND m.user_id = ")
        .bind(id)
        .push(" UNION ALL SELECT g.group_id FROM group_members g WHERE g.directory_id = ")
        .push(directory)
        .push(" AND g.member_id = ")
        .bind(id)
        .push(")");
}

#[cfg(test)]
mod tests {
    use super::end_of_prefix;

    #[test]
    fn a_prefix_ends_before_the_next_text_that_lacks_it() {
        assert_eq!(end_of_prefix("ada").unwrap(), "adb");
        assert_eq!(end_of_prefix("a\u{D7FF}").unwrap(), "a\u{E000}");
        assert_eq!(end_of_prefix("a\u{10FFFF}").unwrap(), "b");
        assert_eq!(end_of_prefix("\u{10FFFF}"), None);
        assert!("ad\u{10FFFF}z" < end_of_prefix("ad").unwrap().as_str());
    }
}
