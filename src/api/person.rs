//! How a request names a person, and where they are looked for.

use serde::Deserialize;

use super::directories::find as find_directory;
use super::read::field_error;
use super::{Caller, Problem};
use crate::directories::person::{Known, Scope};
use crate::ids::{DirectoryUserId, OrganizationId};
use crate::keys::fold;
use crate::tenancy::organization;

/// Exactly one name of a person, and where they are looked for: without either, in all directories.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonQuery {
    /// One of their e-mail addresses.
    pub email: Option<String>,
    /// Their userName.
    pub user_name: Option<String>,
    /// The provider's own id.
    pub idp_id: Option<String>,
    /// The id of the directory user.
    pub user: Option<String>,
    /// The organization whose directories are looked in.
    pub organization_id: Option<String>,
    /// The directory that is looked in.
    pub directory: Option<String>,
}

impl PersonQuery {
    /// Reads the name, of which there must be one.
    pub(super) fn known(&self) -> Result<Known, Problem> {
        let given = [
            self.email.as_deref().map(|text| Known::Email(fold(text))),
            self.user_name
                .as_deref()
                .map(|text| Known::UserName(fold(text))),
            self.idp_id.clone().map(Known::IdpId),
        ];
        let user = self.user.as_deref().map(parse_user).transpose()?;
        let mut given = given.into_iter().flatten().chain(user.map(Known::User));
        let (Some(known), None) = (given.next(), given.next()) else {
            let code = "give exactly one of email, user_name, idp_id and user";
            return Err(Problem::invalid(vec![field_error("email", code)]));
        };
        let has_place = self.directory.is_some() || self.organization_id.is_some();
        if !known.is_found_everywhere() && !has_place {
            let code = "is needed with user_name or idp_id, which mean nothing elsewhere; \
                        organization_id does as well";
            return Err(Problem::invalid(vec![field_error("directory", code)]));
        }
        Ok(known)
    }

    /// Where to look; the directory or organization must be there.
    pub(super) async fn scope(&self, caller: &Caller) -> Result<Scope, Problem> {
        let organization = match &self.organization_id {
            Some(id) => Some(find_organization(caller, id).await?),
            None => None,
        };
        let Some(id) = &self.directory else {
            return Ok(organization.map_or(Scope::Everywhere, Scope::Organization));
        };
        let directory = find_directory(caller, id).await?;
        if organization.is_some_and(|organization| organization != directory.organization_id) {
            return Err(Problem::not_found("Directory of the organization", id));
        }
        Ok(Scope::Directory(directory.id))
    }
}

fn parse_user(text: &str) -> Result<DirectoryUserId, Problem> {
    DirectoryUserId::parse(text).ok_or_else(|| {
        let code = "must be the id of a directory user";
        Problem::invalid(vec![field_error("user", code)])
    })
}

async fn find_organization(caller: &Caller, id: &str) -> Result<OrganizationId, Problem> {
    let missing = || Problem::not_found("Organization", id);
    let parsed = OrganizationId::parse(id).ok_or_else(missing)?;
    let found = organization::find(caller.context.store.reader(), parsed).await?;
    found.map(|found| found.row.id).ok_or_else(missing)
}
