//! How Microsoft Entra ID says it: users, then groups, then memberships one by one, then managers;
//! PATCH only, with capitalized operations, booleans as strings and one operation per attribute.
//! With `aadOptscim062020` in the URL, in the shape that flag asks for instead. People are
//! deactivated first and deleted for good later.

use serde_json::{Value, json};

use super::{
    Change,
    ChangeKind::{Activated, Added, Created, Deleted, Removed, Updated},
    Dialect, Failure, Phase, Subject,
    answer::{created_id, first_id, known_id},
    people::{Dice, Group, Person, married},
    script::Action,
    session::{Ask, Session, filter, may, must},
};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
const AD_GROUP: &str = "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group";

/// Says one action over SCIM.
pub(super) async fn perform(
    session: &Session<'_>,
    phase: Phase,
    action: &Action,
) -> Result<(), Failure> {
    let entra = Entra { session, phase };
    match action {
        Action::Connect => entra.connect().await,
        Action::CreateUser(user) => entra.create_user(*user).await,
        Action::CreateGroup(group) => entra.create_group(*group).await,
        Action::AddMembers { group, members } => entra.join(*group, members).await,
        Action::SetManager { user, manager } => entra.set_manager(*user, *manager).await,
        Action::ChangeProfile(user) => entra.change_profile(*user).await,
        Action::RenameGroup(group) => entra.rename_group(*group).await,
        Action::Exchange {
            group,
            leaves,
            joins,
        } => {
            entra.leave(*group, *leaves).await?;
            entra.join(*group, &[*joins]).await
        }
        Action::Deactivate(user) => entra.set_active(*user, false).await,
        Action::Reactivate(user) => entra.set_active(*user, true).await,
        Action::DeleteUser(user) => entra.delete_user(*user).await,
        Action::DeleteGroup(group) => entra.delete_group(*group).await,
    }
}

struct Entra<'s, 'a> {
    session: &'s Session<'a>,
    phase: Phase,
}

impl Entra<'_, '_> {
    /// Asks for a user and a group that cannot exist; both answers must be empty lists.
    async fn connect(&self) -> Result<(), Failure> {
        let nobody = Dice::new(0xC0FF_EE00).guid();
        let mut changes = vec![must(Activated, Subject::Directory)];
        for (path, prefix, attribute) in [
            ("/Users", "", "userName"),
            ("/Groups", "excludedAttributes=members&", "displayName"),
        ] {
            let query = filter(
                Dialect::Entra,
                &format!("{attribute} eq {}", Value::from(&*nobody)),
            );
            let ask = Ask {
                method: "GET",
                path: path.to_owned(),
                query: format!("{prefix}{query}"),
                subject: "connection test".to_owned(),
                changes: std::mem::take(&mut changes),
                accepts: &[200],
                ..Ask::default()
            };
            self.session.send(self.phase, ask).await?;
        }
        Ok(())
    }

    async fn find_user(&self, person: &Person) -> Result<Option<String>, Failure> {
        let name = Value::from(person.user_name.as_str());
        let ask = Ask {
            method: "GET",
            path: "/Users".to_owned(),
            query: filter(Dialect::Entra, &format!("userName eq {name}")),
            subject: person.display_name(),
            accepts: &[200],
            ..Ask::default()
        };
        Ok(first_id(&self.session.send(self.phase, ask).await?))
    }

    async fn create_user(&self, place: usize) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        if let Some(id) = self.find_user(&person).await? {
            self.session
                .edit_person(place, |person| person.id = Some(id.clone()));
            let changes = vec![may(Updated, Subject::User(person.external_id.clone()))];
            let mut profile = self.profile(&person);
            profile.push(self.active(true));
            return self
                .patch(&format!("/Users/{id}"), &person.user_name, profile, changes)
                .await;
        }
        let ask = Ask {
            method: "POST",
            path: "/Users".to_owned(),
            body: Some(new_user(&person)),
            subject: person.display_name(),
            changes: vec![must(Created, Subject::User(person.external_id.clone()))],
            accepts: &[201],
            ..Ask::default()
        };
        let created = self.session.send(self.phase, ask).await?;
        let id = created_id("POST /Users", &created)?;
        self.session
            .edit_person(place, |person| person.id = Some(id));
        Ok(())
    }

    async fn change_profile(&self, place: usize) -> Result<(), Failure> {
        let mut person = self.session.person(place)?;
        // Entra matches with the name that it pushed last.
        let found = self.find_user(&person).await?;
        let id = known_id(found.as_ref(), &person.user_name)?;
        (person.family, person.user_name) = married(&person, place);
        let changes = vec![must(Updated, Subject::User(person.external_id.clone()))];
        let operations = self.profile(&person);
        self.patch(
            &format!("/Users/{id}"),
            &person.display_name(),
            operations,
            changes,
        )
        .await?;
        self.session.edit_person(place, |known| *known = person);
        Ok(())
    }

    async fn set_active(&self, place: usize, active: bool) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let found = self.find_user(&person).await?;
        let id = known_id(found.as_ref(), &person.user_name)?;
        let changes = self.session.access_changes(place, active);
        let operations = vec![self.active(active)];
        self.patch(
            &format!("/Users/{id}"),
            &person.display_name(),
            operations,
            changes,
        )
        .await?;
        self.session
            .edit_person(place, |person| person.active = active);
        Ok(())
    }

    async fn set_manager(&self, place: usize, manager: usize) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let id = known_id(person.id.as_ref(), &person.user_name)?;
        let manager = self.session.person(manager)?;
        let manager = known_id(manager.id.as_ref(), &manager.user_name)?;
        // Whether a manager shows in an event depends on which attributes are mapped.
        let changes = vec![may(Updated, Subject::User(person.external_id.clone()))];
        let path = format!("{ENTERPRISE}:manager");
        let operations = vec![json!({"op": self.op("Add"), "path": path, "value": manager})];
        self.patch(
            &format!("/Users/{id}"),
            &person.display_name(),
            operations,
            changes,
        )
        .await
    }

    /// Deleted after the time in the bin; the deactivation came long before.
    async fn delete_user(&self, place: usize) -> Result<(), Failure> {
        let person = self.session.person(place)?;
        let id = known_id(person.id.as_ref(), &person.user_name)?;
        let changes = self.session.deletion_changes(place);
        let ask = Ask::delete(format!("/Users/{id}"), person.display_name(), changes);
        self.session.send(self.phase, ask).await?;
        self.session.edit_person(place, |person| person.gone = true);
        Ok(())
    }

    async fn create_group(&self, place: usize) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let query = format!("displayName eq {}", Value::from(group.name.as_str()));
        let ask = Ask {
            method: "GET",
            path: "/Groups".to_owned(),
            query: format!(
                "excludedAttributes=members&{}",
                filter(Dialect::Entra, &query)
            ),
            subject: group.name.clone(),
            accepts: &[200],
            ..Ask::default()
        };
        let found = first_id(&self.session.send(self.phase, ask).await?);
        let id = if let Some(id) = found {
            id
        } else {
            let ask = Ask {
                method: "POST",
                path: "/Groups".to_owned(),
                body: Some(json!({
                    "schemas": [GROUP, AD_GROUP],
                    "externalId": group.external_id,
                    "displayName": group.name,
                    "meta": {"resourceType": "Group"},
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

    async fn rename_group(&self, place: usize) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let id = known_id(group.id.as_ref(), &group.name)?;
        let read = Ask {
            method: "GET",
            path: format!("/Groups/{id}"),
            query: "excludedAttributes=members".to_owned(),
            subject: group.name.clone(),
            accepts: &[200],
            ..Ask::default()
        };
        self.session.send(self.phase, read).await?;
        let name = format!("{} – Global", group.name);
        let operation = if self.session.is_flagged {
            json!({"op": "replace", "value": {"displayName": name}})
        } else {
            json!({"op": "Replace", "path": "displayName", "value": name})
        };
        let changes = vec![must(Updated, Subject::Group(name.clone()))];
        self.patch(
            &format!("/Groups/{id}"),
            &group.name,
            vec![operation],
            changes,
        )
        .await?;
        self.session.edit_group(place, |group| group.name = name);
        Ok(())
    }

    async fn join(&self, place: usize, members: &[usize]) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let (mut value, mut changes) = (Vec::new(), Vec::new());
        for member in members {
            let person = self.session.person(*member)?;
            let id = known_id(person.id.as_ref(), &person.user_name)?;
            value.push(json!({"$ref": null, "value": id}));
            changes.push(must(Added, membership(&person, &group)));
        }
        let operation = json!({"op": self.op("Add"), "path": "members", "value": value});
        self.patch_group(&group, operation, changes).await?;
        self.session
            .edit_group(place, |group| group.members.extend(members));
        Ok(())
    }

    async fn leave(&self, place: usize, member: usize) -> Result<(), Failure> {
        let group = self.session.group(place)?;
        let person = self.session.person(member)?;
        let id = known_id(person.id.as_ref(), &person.user_name)?;
        let operation = if self.session.is_flagged {
            json!({"op": "remove", "path": format!("members[value eq {}]", Value::from(id))})
        } else {
            json!({"op": "Remove", "path": "members", "value": [{"$ref": null, "value": id}]})
        };
        let changes = vec![must(Removed, membership(&person, &group))];
        self.patch_group(&group, operation, changes).await?;
        self.session.edit_group(place, |group| {
            group.members.remove(&member);
        });
        Ok(())
    }

    async fn patch_group(
        &self,
        group: &Group,
        operation: Value,
        changes: Vec<Change>,
    ) -> Result<(), Failure> {
        let id = known_id(group.id.as_ref(), &group.name)?;
        self.patch(
            &format!("/Groups/{id}"),
            &group.name,
            vec![operation],
            changes,
        )
        .await
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

    async fn patch(
        &self,
        path: &str,
        subject: &str,
        operations: Vec<Value>,
        changes: Vec<Change>,
    ) -> Result<(), Failure> {
        let ask = Ask::patch(
            path.to_owned(),
            subject.to_owned(),
            &json!(operations),
            changes,
        );
        self.session.send(self.phase, ask).await.map(drop)
    }

    /// Operations are capitalized unless the flag is set.
    fn op(&self, name: &str) -> String {
        if self.session.is_flagged {
            name.to_ascii_lowercase()
        } else {
            name.to_owned()
        }
    }

    /// Access as a string, or as the boolean it is if the flag is set.
    fn active(&self, active: bool) -> Value {
        if self.session.is_flagged {
            json!({"op": "replace", "path": "active", "value": active})
        } else {
            let value = if active { "True" } else { "False" };
            json!({"op": "Replace", "path": "active", "value": value})
        }
    }

    /// One operation per attribute; with the flag, value paths apart and the rest merged.
    fn profile(&self, person: &Person) -> Vec<Value> {
        let email = r#"emails[type eq "work"].value"#;
        let department = format!("{ENTERPRISE}:department");
        let number = format!("{ENTERPRISE}:employeeNumber");
        if self.session.is_flagged {
            let merged = json!({
                "userName": person.user_name,
                "displayName": person.display_name(),
                "name.familyName": person.family,
                department: person.department,
                number: person.employee_number,
            });
            return vec![
                json!({"op": "replace", "path": email, "value": person.user_name}),
                json!({"op": "replace", "value": merged}),
            ];
        }
        vec![
            json!({"op": "Replace", "path": "userName", "value": person.user_name}),
            json!({"op": "Replace", "path": "displayName", "value": person.display_name()}),
            json!({"op": "Replace", "path": "name.familyName", "value": person.family}),
            json!({"op": "Replace", "path": email, "value": person.user_name}),
            json!({"op": "Add", "path": department, "value": person.department}),
            json!({"op": "Add", "path": number, "value": person.employee_number}),
        ]
    }
}

fn membership(person: &Person, group: &Group) -> Subject {
    Subject::Membership(person.external_id.clone(), group.name.clone())
}

/// Attributes without a value come as `null`; `externalId` is the object's id.
fn new_user(person: &Person) -> Value {
    json!({
        "schemas": [USER, ENTERPRISE],
        "externalId": person.external_id,
        "userName": person.user_name,
        "active": true,
        "addresses": null,
        "displayName": person.display_name(),
        "emails": [{"type": "work", "value": person.user_name, "primary": true}],
        "meta": {"resourceType": "User"},
        "name": {
            "formatted": person.display_name(),
            "familyName": person.family,
            "givenName": person.given,
        },
        "phoneNumbers": null,
        "preferredLanguage": null,
        "roles": [],
        "title": person.title,
        ENTERPRISE: {
            "department": person.department,
            "employeeNumber": person.employee_number,
            "manager": null,
        },
    })
}
