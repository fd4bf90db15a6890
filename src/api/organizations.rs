//! Organizations, as the wire contract has them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::{check_name, field_error};
use super::{Caller, FieldError, Problem};
use crate::clock;
use crate::directories::deletion;
use crate::ids::OrganizationId;
use crate::tenancy::organization::{
    self, DomainState, METADATA_KEYS_MAX, NewOrganization, Organization,
};

const EXTERNAL_ID_BYTES_MAX: usize = 128;
const METADATA_KEY_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 600;

/// What `POST /organizations` takes.
#[derive(Debug, Default, Deserialize)]
pub struct CreateOrganization {
    /// Its name.
    pub name: String,
    /// The vendor's own id for it.
    #[serde(default)]
    pub external_id: Option<String>,
    /// Its domains with their state.
    #[serde(default)]
    pub domain_data: Vec<DomainData>,
    /// Its domains; the older form, taken as verified.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Free pairs.
    #[serde(default)]
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A domain of `domain_data`.
#[derive(Debug, Deserialize)]
pub struct DomainData {
    /// The domain.
    pub domain: String,
    /// `pending` or `verified`.
    #[serde(default)]
    pub state: Option<String>,
}

/// Makes an organization.
///
/// # Errors
/// A field is invalid, or the external id or a domain is taken.
pub async fn create(caller: &Caller, request: CreateOrganization) -> Result<Value, Problem> {
    let organization = check(request)?;
    let created = organization::create(&caller.context.store, caller.actor, organization)
        .await
        .map_err(problem)?;
    Ok(view(&created))
}

/// Shows an organization.
///
/// # Errors
/// There is none with this id.
pub async fn show(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let parsed = parse(id)?;
    let found = organization::find(caller.context.store.reader(), parsed).await?;
    let found = found.ok_or(organization::Error::NotFound(parsed));
    Ok(view(&found.map_err(problem)?))
}

fn parse(id: &str) -> Result<OrganizationId, Problem> {
    OrganizationId::parse(id).ok_or_else(|| Problem::not_found("Organization", id))
}

/// Deletes an organization with all its directories, after the time in which that can be taken back.
///
/// # Errors
/// There is none with this id.
pub async fn delete(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let (id, store) = (parse(id)?, &caller.context.store);
    let grace = caller.context.directories.deletion_grace.delta();
    let row = organization::schedule_deletion(store, caller.actor, id, grace).await;
    let row = row.map_err(problem)?;
    deletion::organization::follow(store, caller.actor, Some(id)).await?;
    tracing::warn!(organization_id = %id, "an organization is going to be deleted");
    Ok(view(&row))
}

/// Takes the deletion of an organization back.
///
/// # Errors
/// There is none with this id, it is not going to be deleted, or it is too late.
pub async fn restore(caller: &Caller, id: &str) -> Result<Value, Problem> {
    let (id, store) = (parse(id)?, &caller.context.store);
    let row = organization::restore(store, caller.actor, id).await;
    let row = row.map_err(problem)?;
    deletion::organization::follow(store, caller.actor, Some(id)).await?;
    tracing::info!(organization_id = %id, "the deletion of an organization was taken back");
    Ok(view(&row))
}

fn problem(error: organization::Error) -> Problem {
    match error {
        organization::Error::ExternalIdTaken(_) => {
            Problem::new(400, "external_id_already_used", error.to_string())
        }
        organization::Error::DomainTaken(_) => {
            Problem::new(409, "domain_already_exists", error.to_string())
        }
        organization::Error::NotFound(id) => Problem::not_found("Organization", &id.to_string()),
        organization::Error::NotDeleting => {
            Problem::new(409, "deletion_not_scheduled", error.to_string())
        }
        organization::Error::Ended(_) => Problem::new(409, "already_deleted", error.to_string()),
        organization::Error::Storage(error) => error.into(),
    }
}

fn check(request: CreateOrganization) -> Result<NewOrganization, Problem> {
    let mut errors = Vec::new();
    check_name("name", &request.name, &mut errors);
    if let Some(external_id) = &request.external_id
        && (external_id.is_empty()
            || external_id.len() > EXTERNAL_ID_BYTES_MAX
            || !external_id
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' '))
    {
        errors.push(field_error(
            "external_id",
            "must be 1 to 128 printable ASCII characters",
        ));
    }
    let domains = check_domains(&request, &mut errors);
    let metadata = request.metadata.unwrap_or_default();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let is_too_large = metadata.len() > METADATA_KEYS_MAX
        || metadata.iter().any(|(key, value)| {
            key.is_empty() || key.len() > METADATA_KEY_MAX || value.len() > METADATA_VALUE_MAX
        });
    if is_too_large {
        return Err(Problem::new(
            400,
            "invalid_metadata",
            "metadata takes up to 50 keys of 1 to 40 bytes with values of up to 600 bytes",
        ));
    }
    Ok(NewOrganization {
        name: request.name,
        external_id: request.external_id,
        domains,
        metadata,
    })
}

fn check_domains(
    request: &CreateOrganization,
    errors: &mut Vec<FieldError>,
) -> Vec<(String, DomainState)> {
    let mut domains: BTreeMap<String, DomainState> = BTreeMap::new();
    let older = request
        .domains
        .iter()
        .map(|domain| (domain.as_str(), Some("verified")));
    let newer = request
        .domain_data
        .iter()
        .map(|data| (data.domain.as_str(), data.state.as_deref()));
    for (domain, state) in older.chain(newer) {
        let state = match state {
            None | Some("pending") => DomainState::Pending,
            Some("verified") => DomainState::Verified,
            Some(_) => {
                errors.push(field_error(
                    "domain_data",
                    "state must be pending or verified",
                ));
                continue;
            }
        };
        let folded = domain.trim().trim_end_matches('.').to_ascii_lowercase();
        if is_domain(&folded) {
            domains.insert(folded, state);
        } else {
            errors.push(field_error(
                "domain_data",
                "must be domains such as example.com",
            ));
        }
    }
    domains.into_iter().collect()
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

fn view(organization: &Organization) -> Value {
    let row = &organization.row;
    let metadata: Value = serde_json::from_str(&row.metadata).unwrap_or_else(|_| json!({}));
    let domains: Vec<Value> = organization
        .domains
        .iter()
        .map(|domain| {
            json!({
                "object": "organization_domain",
                "id": domain.id,
                "organization_id": domain.organization_id,
                "domain": domain.domain,
                "state": domain.state,
                "created_at": clock::text(domain.created_at),
                "updated_at": clock::text(domain.updated_at),
            })
        })
        .collect();
    json!({
        "object": "organization",
        "id": row.id,
        "name": row.name,
        "domains": domains,
        "metadata": metadata,
        "external_id": row.external_id,
        "allow_profiles_outside_organization": false,
        "deletion_due_at": row.deletion_due_at.map(clock::text),
        "created_at": clock::text(row.created_at),
        "updated_at": clock::text(row.updated_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_told_from_other_text() {
        for domain in ["example.com", "a.b-c.co.uk", "xn--bcher-kva.example"] {
            assert!(is_domain(domain), "{domain}");
        }
        for text in ["", "localhost", "-a.com", "a..com", "a b.com", "a@b.com"] {
            assert!(!is_domain(text), "{text}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let problem = check(CreateOrganization {
            name: " ".to_owned(),
            external_id: Some("ä".to_owned()),
            domains: vec!["nonsense".to_owned()],
            ..CreateOrganization::default()
        })
        .unwrap_err();
        let text = problem.to_string();
        for field in ["name", "external_id", "domain_data"] {
            assert!(text.contains(field), "{text}");
        }
    }
}
