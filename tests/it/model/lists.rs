//! Lists of a directory, and what the model says that they are.

use serde_json::Value;

use super::requests::Asked;
use super::store::Store;
use crate::support::Idp;

/// A list that is asked for, and the names that it must have.
pub(super) struct List {
    endpoint: &'static str,
    by: Option<&'static str>,
    is_descending: bool,
    names: Vec<String>,
}

impl List {
    pub(super) fn of(model: &Store, asked: Asked) -> Self {
        let Asked {
            of_users,
            by,
            is_descending,
        } = asked;
        let (endpoint, orders) = if of_users {
            ("/Users", [None, Some("userName"), Some("title")])
        } else {
            ("/Groups", [None, Some("displayName"), Some("DISPLAYNAME")])
        };
        let by = orders[by % orders.len()];
        let names = if of_users {
            model.users_by(by, is_descending)
        } else {
            model.groups_by(by, is_descending)
        };
        Self {
            endpoint,
            by,
            is_descending,
            names,
        }
    }

    async fn page(&self, idp: &Idp, given: &[(&str, &str)]) -> Value {
        let mut parameters = given.to_vec();
        parameters.extend(self.by.map(|by| ("sortBy", by)));
        if self.is_descending {
            parameters.push(("sortOrder", "descending"));
        }
        let page = idp.get(self.endpoint, &parameters).await.expect(200);
        assert_eq!(page["totalResults"], self.names.len());
        page
    }

    pub(super) async fn check_page(&self, idp: &Idp, start: usize, count: usize) {
        let (start_text, count_text) = (start.to_string(), count.to_string());
        let given = [("startIndex", start_text.as_str()), ("count", &count_text)];
        let page = self.page(idp, &given).await;
        let expected = self.names.iter().skip(start.max(1) - 1).take(count);
        let expected: Vec<String> = expected.cloned().collect();
        assert_eq!(names_on(&page), expected);
    }

    pub(super) async fn check_walk(&self, idp: &Idp, count: usize) {
        let count = count.to_string();
        let (mut cursor, mut seen) = (String::new(), Vec::new());
        loop {
            let page = self
                .page(idp, &[("cursor", &cursor), ("count", &count)])
                .await;
            seen.extend(names_on(&page));
            match page["nextCursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert_eq!(seen, self.names);
    }
}

fn names_on(page: &Value) -> Vec<String> {
    let resources = page["Resources"].as_array().unwrap().iter();
    let name = |resource: &Value| {
        let name = resource.get("userName").unwrap_or(&resource["displayName"]);
        name.as_str().unwrap().to_owned()
    };
    resources.map(name).collect()
}
