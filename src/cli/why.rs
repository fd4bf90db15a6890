//! `rollcall why`: the explanation of the API, for people to read.

use std::path::Path;

use clap::Args;
use serde_json::{Map, Value};

use super::administer::{self, Request};
use super::arguments::Where;
use super::print_line;

/// Who is missing, and where to look for them.
#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// The person's e-mail address
    email: String,
    /// The directory to look in; without it, all of them
    #[arg(long, value_name = "DIRECTORY_ID")]
    directory: Option<String>,
    /// The organization to look in
    #[arg(long, value_name = "ORG_ID")]
    organization: Option<String>,
    #[command(flatten)]
    place: Where,
}

/// Asks for the explanation and prints it.
pub(super) async fn run(file: Option<&Path>, why: WhyArguments) -> anyhow::Result<bool> {
    let is_json = why.place.json;
    let given = [
        ("email", Some(why.email)),
        ("directory", why.directory),
        ("organization_id", why.organization),
    ];
    let query: Map<String, Value> = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))))
        .collect();
    let request = Request::search("/admin/v1/explanations", &Value::Object(query), why.place);
    let view = administer::ask(file, &request).await?;
    if is_json {
        print_line(&view.to_string())?;
    } else {
        print(&view)?;
    }
    Ok(true)
}

fn print(view: &Value) -> anyhow::Result<()> {
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or("-")
            .to_owned()
    };
    let entries = |name: &str| {
        view.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    print_line(&format!(
        "{}: {}",
        text(view, "verdict"),
        text(view, "text")
    ))?;
    print_line(&text(view, "next"))?;
    print_line("")?;
    for name in ["directory_id", "user_id"] {
        print_line(&format!("{name}  {}", text(view, name)))?;
    }
    for fact in entries("facts") {
        print_line(&format!("{}  {}", text(fact, "at"), text(fact, "text")))?;
    }
    for endpoint in entries("per_endpoint") {
        let (url, state) = (text(endpoint, "endpoint_url"), text(endpoint, "state"));
        print_line(&format!("{url}  {state}  {}", text(endpoint, "cause")))?;
    }
    Ok(())
}
