//! What these tests put into the database themselves: states of directories, and requests of providers.

use chrono::{DateTime, Utc};
use rollcall::ids::{DirectoryId, RequestId};
use rollcall::requests::Subject;
use rollcall::storage::tables::{directories, scim_request_subjects, scim_requests};
use sea_orm::EntityTrait;
use serde_json::Value;

use crate::support::TestApp;

/// Changes the row of a directory behind the server's back.
pub(super) async fn set(app: &TestApp, id: &str, row: directories::ActiveModel) {
    let row = directories::ActiveModel {
        id: sea_orm::ActiveValue::Unchanged(DirectoryId::parse(id).unwrap()),
        ..row
    };
    let connection = app.store().statement_connection();
    directories::Entity::update(row)
        .exec(connection)
        .await
        .unwrap();
}

/// The time of the app.
pub(super) fn now(app: &TestApp) -> DateTime<Utc> {
    app.store().clock().now()
}

/// A `POST /Users` that was answered with `status`.
pub(super) fn request(app: &TestApp, directory_id: &str, status: i16) -> scim_requests::Model {
    scim_requests::Model {
        directory_id: DirectoryId::parse(directory_id).unwrap(),
        id: RequestId::generate(),
        created_at: now(app),
        method: "POST".to_owned(),
        path: "/Users".to_owned(),
        status,
        duration_ms: 3,
        token_id: None,
        token_suffix: None,
        user_agent: None,
        address: None,
        scim_type: None,
        detail: None,
        situation: None,
        request_body: None,
        response_body: None,
    }
}

/// Writes a request down.
pub(super) async fn write(app: &TestApp, row: scim_requests::Model, subjects: Vec<Subject>) {
    let connection = app.store().statement_connection();
    let (directory_id, request_id) = (row.directory_id, row.id);
    scim_requests::Entity::insert(scim_requests::ActiveModel::from(row))
        .exec_without_returning(connection)
        .await
        .unwrap();
    for subject in subjects {
        let row = scim_request_subjects::Model {
            directory_id,
            subject: subject.to_string(),
            request_id,
        };
        scim_request_subjects::Entity::insert(scim_request_subjects::ActiveModel::from(row))
            .exec_without_returning(connection)
            .await
            .unwrap();
    }
}

/// The entry of a list whose `field` is this.
#[track_caller]
pub(super) fn entry<'a>(list: &'a Value, field: &str, value: &Value) -> &'a Value {
    let mut entries = list.as_array().unwrap().iter();
    let found = entries.find(|entry| entry[field] == *value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {list}"))
}
