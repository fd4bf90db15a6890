//! How Okta says it: an app of its catalogue, with PATCH for access and groups and PUT for
//! profiles. Okta never deletes people; deactivation is the end of the line.

use serde_json::{Value, json};

use super::{
    Change,
    ChangeKind::{Activated, Added, Created, Deleted, Removed, Updated},
    Dialect, Failure, Phase, Subject,
    answer::{created_id, first_id, known_id},
    people::{Group, Person, married},
    script::Action,
    session::{Ask, Session, filter, may, must},
};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// Says one action over SCIM.
pub(super) async fn perform(
    session: &Session<'_>,
    phase: Phase,
    action: &Action,
) -> Result<(), Failure> {
    let okta = Okta { session, phase };
    match action {
        Action::Connect => okta.connect().await,
        Action::CreateUser(user) => okta.create_user(*user).await,
        Action::CreateGroup(group) => okta.create_group(*group).await,
        Action::AddMembers { group, members } => okta.push_members(*group, &[], members).await,
        Action::ChangeProfile(user) => okta.change_profile(*user).await,
        Action::RenameGroup(group) => okta.rename_group(*group).await,
        Action::Exchange {
            group,
            leaves,
            joins,
        } => okta.push_members(*group, &[*leaves], &[*joins]).await,
        Action::Deactivate(user) => okta.deactivate(*user).await,
        Action::Reactivate(user) => okta.reactivate(*user).await,
        Action::DeleteGroup(group) => okta.delete_group(*group).await,
        Action::SetManager { .. } | Action::DeleteUser(_) => Ok(()),
    }
}

struct Okta<'s, 'a> {
    session: &'s Session<'a>,
    phase: Phase,
}

impl Okta<'_, '_> {
    async fn connect(&self) -> Result<(), Failure> {
        let users = Ask {
            method: "GET",
            path: "/Users".to_owned(),
            query: "startIndex=1&count=2".to_owned(),
            subject: "connection test".to_owned(),
            changes: vec![must(Activated, Subject::Directory)],
            accepts: &[200],
            ..Ask::default()
        };
        self.session.send(self.phase, users).await?;
        let groups = Ask {
            method: "GET",
            path: "/Groups".to_owned(),
            query: "count=100&startIndex=1".to_owned(),
            subject: "connection test".to_owned(),
            accepts: &[200],
            ..Ask::default()
        };
        self.session.send(self.phase, groups).await.map(drop)
    }

    /// Looks for a resource by the attribute that identifies it.
    async fn find(
        &self,
        path: &str,
        attribute: &str,
        value: &str,
    ) -> Result<Option<String>, Failure> {
        let query = filter(
            Dialect::Okta,
            &format!("{attribute} eq {}", Value::from(value)),
        );
        let ask = Ask {
            method: "GET",
            path: path.to_owned(),
            query: format!("{query}&startIndex=1&count=100"),
            subject: value.to_owned(),
            accepts: &[200],
            ..Ask::default()
        };
        Ok(first_id(&self.session.send(self.phase, ask).await?))
    }

    async fn create_user(&self, place: usize) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let subject = Subject::User(person.external_id.clone());
        if let Some(id) = self.find("/Users", "userName", &person.user_name).await? {
            self.session
                .edit_person(place, |person| person.id = Some(id));
            return self.put_user(place, vec![may(Updated, subject)]).await;
        }
        let ask = Ask {
            method: "POST",
            path: "/Users".to_owned(),
            body: Some(new_user(&person)),
            subject: person.display_name(),
            changes: vec![must(Created, subject)],
            accepts: &[201],
            ..Ask::default()
        };
        let created = self.session.send(self.phase, ask).await?;
        let id = created_id("POST /Users", &created)?;
        self.session
            .edit_person(place, |person| person.id = Some(id));
        Ok(())
    }

    /// Reads the user and sends the whole of what was read back, with the profile laid over it.
    async fn put_user(&self, place: usize, changes: Vec<Change>) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let id = known_id(person.id.as_ref(), &person.user_name)?;
        let read = Ask {
            method: "GET",
            path: format!("/Users/{id}"),
            subject: person.display_name(),
            accepts: &[200],
            ..Ask::default()
        };
        let mut user = self.session.send(self.phase, read).await?;
        lay_profile_over(&mut user, &person);
        let put = Ask {
            method: "PUT",
            path: format!("/Users/{id}"),
            body: Some(user),
            subject: person.display_name(),
            changes,
            accepts: &[200],
            ..Ask::default()
        };
        self.session.send(self.phase, put).await.map(drop)
    }

    async fn change_profile(&self, place: usize) -> Result<(), Failure> {
        let before = self.session.person(place)?;
        let (family, user_name) = married(&before, place);
        self.session.edit_person(place, |person| {
            (person.family, person.user_name) = (family, user_name);
        });
        let subject = Subject::User(before.external_id.clone());
        let outcome = self.put_user(place, vec![must(Updated, subject)]).await;
        if outcome.is_err() {
            self.session.edit_person(place, |person| *person = before);
        }
        outcome
    }

    async fn patch_active(&self, place: usize, active: bool) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let id = known_id(person.id.as_ref(), &person.user_name)?;
        let operations = json!([{"op": "replace", "value": {"active": active}}]);
        let changes = self.session.access_changes(place, active);
        let path = format!("/Users/{id}");
        let ask = Ask::patch(path, person.display_name(), &operations, changes);
        self.session.send(self.phase, ask).await?;
        self.session
            .edit_person(place, |person| person.active = active);
        Ok(())
    }

    async fn deactivate(&self, place: usize) -> Result<(), Failure> {
        self.patch_active(place, false).await
    }

    /// Somebody assigned again is looked for by `userName` first.
    async fn reactivate(&self, place: usize) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let found = self.find("/Users", "userName", &person.user_name).await?;
        let id = known_id(found.as_ref(), &person.user_name)?;
        self.session
            .edit_person(place, |person| person.id = Some(id));
        self.patch_active(place, true).await
    }

    async fn create_group(&self, place: usize) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let found = self.find("/Groups", "displayName", &group.name).await?;
        let id = if let Some(id) = found {
            id
        } else {
            let ask = Ask {
                method: "POST",
                path: "/Groups".to_owned(),
                body: Some(json!({
                    "schemas": [GROUP], "displayName": group.name, "members": [],
                })),
                subject: group.name.clone(),
                changes: vec![must(Created, Subject::Group(group.name))],
                accepts: &[201],
                ..Ask::default()
            };
            created_id("POST /Groups", &self.session.send(self.phase, ask).await?)?
        };
        self.session.edit_group(place, |group| group.id = Some(id));
        Ok(())
    }

    /// A group push: the name again, who left, who joined, all in one request.
    async fn push_members(
        &self,
        place: usize,
        leave: &[usize],
        join: &[usize],
    ) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let mut operations = vec![json!({
            "op": "replace", "value": {"id": group.id, "displayName": group.name},
        })];
        let mut changes = Vec::new();
        let membership =
            |person: &Person| Subject::Membership(person.external_id.clone(), group.name.clone());
        for user in leave {
            let person = self.session.person(*user)?;
            let id = known_id(person.id.as_ref(), &person.user_name)?;
            let path = format!("members[value eq {}]", Value::from(id));
            operations.push(json!({"op": "remove", "path": path}));
            changes.push(must(Removed, membership(&person)));
        }
        let mut added = Vec::new();
        for user in join {
            let person = self.session.person(*user)?;
            let id = known_id(person.id.as_ref(), &person.user_name)?;
            added.push(json!({"value": id, "display": person.user_name}));
            changes.push(must(Added, membership(&person)));
        }
        operations.push(json!({"op": "add", "path": "members", "value": added}));
        self.patch_group(&group, &json!(operations), changes)
            .await?;
        self.session.edit_group(place, |group| {
            group.members.retain(|member| !leave.contains(member));
            group.members.extend(join);
        });
        Ok(())
    }

    async fn rename_group(&self, place: usize) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let name = format!("{} – Global", group.name);
        let operations = json!([{"op": "replace", "value": {"id": group.id, "displayName": name}}]);
        let changes = vec![must(Updated, Subject::Group(name.clone()))];
        self.patch_group(&group, &operations, changes).await?;
        self.session.edit_group(place, |group| group.name = name);
        Ok(())
    }

    async fn patch_group(
        &self,
        group: &Group,
        operations: &Value,
        changes: Vec<Change>,
    ) -> Result<(), Failure> {
        let id = known_id(group.id.as_ref(), &group.name)?;
        let path = format!("/Groups/{id}");
        let ask = Ask::patch(path, group.name.clone(), operations, changes);
        self.session.send(self.phase, ask).await.map(drop)
    }

    async fn delete_group(&self, place: usize) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let id = known_id(group.id.as_ref(), &group.name)?;
        let changes = vec![must(Deleted, Subject::Group(group.name.clone()))];
        let ask = Ask::delete(format!("/Groups/{id}"), group.name, changes);
        self.session.send(self.phase, ask).await?;
        self.session.edit_group(place, |group| group.gone = true);
        Ok(())
    }
}

/// Okta always sends a password, a random one when password sync is off.
fn new_user(person: &Person) -> Value {
    json!({
        "schemas": [USER],
        "userName": person.user_name,
        "name": {"givenName": person.given, "familyName": person.family},
        "emails": [{"primary": true, "value": person.user_name, "type": "work"}],
        "displayName": person.display_name(),
        "title": person.title,
        "locale": "en-US",
        "externalId": person.external_id,
        "groups": [],
        "password": format!("1mz{}", person.external_id),
        "active": true,
    })
}

fn lay_profile_over(user: &mut Value, person: &Person) {
    let Some(user) = user.as_object_mut() else {
        return;
    };
    user.insert("userName".to_owned(), json!(person.user_name));
    user.insert("displayName".to_owned(), json!(person.display_name()));
    user.insert("externalId".to_owned(), json!(person.external_id));
    user.insert("active".to_owned(), json!(person.active));
    let emails = json!([{"primary": true, "value": person.user_name, "type": "work"}]);
    user.insert("emails".to_owned(), emails);
    let name = user.entry("name").or_insert_with(|| json!({}));
    if let Some(name) = name.as_object_mut() {
        name.insert("givenName".to_owned(), json!(person.given));
        name.insert("familyName".to_owned(), json!(person.family));
        name.remove("formatted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::World;

    #[test]
    fn a_profile_is_laid_over_what_was_read() {
        let world = World::new(Dialect::Okta, 1, 0, 1);
        let person = world.people.first().unwrap();
        let mut user = json!({
            "id": "42", "meta": {"version": "W/1"}, "nickName": "kept", "userName": "old",
            "name": {"formatted": "Old Name", "middleName": "kept", "familyName": "Name"},
        });
        lay_profile_over(&mut user, person);
        assert_eq!(user["id"], "42");
        assert_eq!(user["meta"]["version"], "W/1");
        assert_eq!(user["nickName"], "kept");
        assert_eq!(user["userName"], json!(person.user_name));
        assert_eq!(user["name"]["familyName"], json!(person.family));
        assert_eq!(user["name"]["middleName"], "kept");
        assert!(user["name"].get("formatted").is_none());
    }
}
