//! Random requests. Resources are named by numbers, so that a sequence of requests can be shortened and
//! still mean something.

use proptest::collection::vec;
use proptest::prelude::*;

/// Names of which several fold to one.
pub(super) const NAMES: [&str; 8] = ["ada", "ADA", "bob", "Bob", "Äda", "äda", "cy", "100%"];
/// Titles; the first is none.
pub(super) const TITLES: [&str; 4] = ["", "CEO", "ceo", "Zar"];

/// What a write is conditional on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Condition {
    None,
    /// The version that the resource is in.
    Current,
    /// One that it is no longer in.
    Stale,
}

/// How the members of a group, or its name, are changed.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Rename(usize),
    Add(Vec<usize>),
    RemoveListed(Vec<usize>),
    RemoveByPath(usize),
    RemoveAll,
    Replace(Vec<usize>),
}

/// An operation of a Bulk request.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    AddUser(usize),
    /// With some of the users that the same request adds.
    AddGroup(usize, Vec<usize>),
    DeleteUser(usize),
    ReplaceUser(usize, usize),
}

/// What a user is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) name: usize,
    pub(super) title: usize,
    pub(super) is_active: bool,
}

/// What is done with a user.
#[derive(Clone, Copy, Debug)]
pub(super) enum UserWrite {
    Replace(Words),
    /// In one of several shapes, with a value.
    Patch((usize, usize)),
    Delete,
}

/// What is done with a group.
#[derive(Clone, Debug)]
pub(super) enum GroupWrite {
    Replace(usize, Vec<usize>),
    Patch(Vec<Step>),
    Delete,
}

/// The list that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) of_users: bool,
    pub(super) by: usize,
    pub(super) is_descending: bool,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) enum Request {
    AddUser(Words),
    User(usize, Condition, UserWrite),
    AddGroup(usize, Vec<usize>),
    Group(usize, Condition, GroupWrite),
    /// Perhaps with a number of errors to stop after.
    Bulk(Vec<Piece>, Option<usize>),
    /// A page from a row on, of a size.
    List(Asked, usize, usize),
    /// All pages of a size.
    Walk(Asked, usize),
}

/// A number that stands for one of few things.
fn few() -> impl Strategy<Value = usize> {
    0..24_usize
}

fn several() -> impl Strategy<Value = Vec<usize>> {
    vec(few(), 0..5)
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => Just(Condition::None),
        2 => Just(Condition::Current),
        1 => Just(Condition::Stale),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        few().prop_map(Step::Rename),
        several().prop_map(Step::Add),
        several().prop_map(Step::RemoveListed),
        few().prop_map(Step::RemoveByPath),
        Just(Step::RemoveAll),
        several().prop_map(Step::Replace),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        few().prop_map(Piece::AddUser),
        (few(), several()).prop_map(|(name, of)| Piece::AddGroup(name, of)),
        few().prop_map(Piece::DeleteUser),
        (few(), few()).prop_map(|(user, name)| Piece::ReplaceUser(user, name)),
    ]
}

fn words() -> impl Strategy<Value = Words> {
    (few(), few(), any::<bool>()).prop_map(|(name, title, is_active)| Words {
        name,
        title,
        is_active,
    })
}

fn write_of_user() -> impl Strategy<Value = UserWrite> {
    prop_oneof![
        2 => words().prop_map(UserWrite::Replace),
        3 => (few(), few()).prop_map(UserWrite::Patch),
        1 => Just(UserWrite::Delete),
    ]
}

fn write_of_group() -> impl Strategy<Value = GroupWrite> {
    prop_oneof![
        1 => (few(), several()).prop_map(|(name, members)| GroupWrite::Replace(name, members)),
        4 => vec(step(), 1..4).prop_map(GroupWrite::Patch),
        1 => Just(GroupWrite::Delete),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let parts = (any::<bool>(), few(), any::<bool>());
    parts.prop_map(|(of_users, by, is_descending)| Asked {
        of_users,
        by,
        is_descending,
    })
}

/// Any request.
pub(super) fn request() -> impl Strategy<Value = Request> {
    let errors_max = proptest::option::of(1..3_usize);
    prop_oneof![
        2 => words().prop_map(Request::AddUser),
        3 => (few(), condition(), write_of_user())
            .prop_map(|(user, condition, write)| Request::User(user, condition, write)),
        1 => (few(), several()).prop_map(|(name, members)| Request::AddGroup(name, members)),
        3 => (few(), condition(), write_of_group())
            .prop_map(|(group, condition, write)| Request::Group(group, condition, write)),
        1 => (vec(piece(), 1..6), errors_max)
            .prop_map(|(pieces, errors_max)| Request::Bulk(pieces, errors_max)),
        1 => (asked(), 0..8_usize, 0..6_usize)
            .prop_map(|(asked, start, count)| Request::List(asked, start, count)),
        1 => (asked(), 1..4_usize).prop_map(|(asked, count)| Request::Walk(asked, count)),
    ]
}
