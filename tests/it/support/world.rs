//! What the database holds, as text that is the same in every run: ids are numbered in the order in
//! which the log names them, and times are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rollcall::ids::{DirectoryId, ResourceId};
use rollcall::storage::tables::{directories, events, group_members, groups, memberships, users};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::Value;

use super::app::TestApp;

/// All directories, who is in them, and what happened.
pub(crate) async fn world(app: &TestApp) -> String {
    let mut text = String::new();
    let directories = directories::Entity::find()
        .order_by_asc(directories::Column::Id)
        .all(app.store().reader())
        .await
        .unwrap();
    for directory in directories {
        writeln!(text, "directory {:?} {}", directory.name, directory.state).unwrap();
        write_directory(app, directory.id, &mut text).await;
    }
    text
}

/// The events of a directory's sequence, in order.
pub(crate) async fn events(app: &TestApp, directory_id: &str) -> Vec<events::Model> {
    let id = DirectoryId::parse(directory_id).unwrap();
    events::Entity::find()
        .filter(events::Column::DirectoryId.eq(id))
        .filter(events::Column::Sequence.is_not_null())
        .order_by_asc(events::Column::Position)
        .all(app.store().reader())
        .await
        .unwrap()
}

/// The kinds of a directory's events, in order.
pub(crate) async fn kinds(app: &TestApp, directory_id: &str) -> Vec<String> {
    let events = events(app, directory_id).await;
    events.into_iter().map(|event| event.kind).collect()
}

/// The last event of a directory, as it is sent.
pub(crate) async fn last_event(app: &TestApp, directory_id: &str) -> Value {
    let events = events(app, directory_id).await;
    serde_json::from_str(&events.last().unwrap().payload).unwrap()
}

/// Numbers ids in the order in which they come up.
#[derive(Default)]
struct Names(BTreeMap<ResourceId, String>, [usize; 2]);

impl Names {
    fn user(&mut self, id: ResourceId) -> String {
        self.name(id, 0, "user")
    }

    fn group(&mut self, id: ResourceId) -> String {
        self.name(id, 1, "group")
    }

    fn name(&mut self, id: ResourceId, kind: usize, word: &str) -> String {
        let count = &mut self.1[kind];
        let name = self.0.entry(id).or_insert_with(|| {
            *count += 1;
            format!("{word}#{count}")
        });
        name.clone()
    }
}

async fn write_directory(app: &TestApp, id: DirectoryId, text: &mut String) {
    let connection = app.store().reader();
    let mut names = Names::default();
    let log = events(app, &id.to_string()).await;
    let story: Vec<String> = log
        .iter()
        .map(|event| story_of(event, &mut names))
        .collect();
    let users = users::Entity::find()
        .filter(users::Column::DirectoryId.eq(id))
        .order_by_asc(users::Column::Id)
        .all(connection)
        .await
        .unwrap();
    for user in users {
        let state = if user.active { "active" } else { "inactive" };
        let name = names.user(user.id);
        writeln!(
            text,
            "  {name} {} {state} v{}",
            user.user_name_key, user.version
        )
        .unwrap();
    }
    let groups = groups::Entity::find()
        .filter(groups::Column::DirectoryId.eq(id))
        .order_by_asc(groups::Column::Id)
        .all(connection)
        .await
        .unwrap();
    for group in groups {
        let members = members(app, &group, &mut names).await;
        let name = names.group(group.id);
        let key = &group.display_name_key;
        writeln!(
            text,
            "  {name} {key:?} v{} [{}]",
            group.version,
            members.join(", ")
        )
        .unwrap();
    }
    for line in story {
        writeln!(text, "  {line}").unwrap();
    }
}

/// The users and then the groups that are in a group.
async fn members(app: &TestApp, group: &groups::Model, names: &mut Names) -> Vec<String> {
    let connection = app.store().reader();
    let users = memberships::Entity::find()
        .filter(memberships::Column::DirectoryId.eq(group.directory_id))
        .filter(memberships::Column::GroupId.eq(group.id))
        .order_by_asc(memberships::Column::UserId)
        .all(connection)
        .await
        .unwrap();
    let groups = group_members::Entity::find()
        .filter(group_members::Column::DirectoryId.eq(group.directory_id))
        .filter(group_members::Column::GroupId.eq(group.id))
        .order_by_asc(group_members::Column::MemberId)
        .all(connection)
        .await
        .unwrap();
    let mut members: Vec<String> = users.iter().map(|row| names.user(row.user_id)).collect();
    members.extend(groups.iter().map(|row| names.group(row.member_id)));
    members
}

/// `5 dsync.user.updated user#1 was {"state":"active"}`; raw attributes are left out, as they say the
/// same again.
fn story_of(event: &events::Model, names: &mut Names) -> String {
    let mut line = format!("{} {}", event.sequence.unwrap_or_default(), event.kind);
    if let Some(id) = event.user_id {
        write!(line, " {}", names.user(id)).unwrap();
    }
    if let Some(id) = event.group_id {
        write!(line, " {}", names.group(id)).unwrap();
    }
    let payload: Value = serde_json::from_str(&event.payload).unwrap();
    if let Some(previous) = payload["data"]["previous_attributes"].as_object() {
        let mut previous = previous.clone();
        previous.remove("raw_attributes");
        write!(line, " was {}", Value::Object(previous)).unwrap();
    }
    line
}
