//! The documents of `/Schemas`, `/ResourceTypes` and `/ServiceProviderConfig` (RFC 7643 sections 5
//! to 7), made from the same tables that read and patch.
//!
//! Clients believe these documents: they send PUT instead of PATCH, or leave filters out, because
//! of what is written here. So they claim nothing that is not so. Attributes that are taken and
//! thrown away (`password`) are not listed.

use serde_json::{Map, Value, json};

use super::attribute::{Attribute, AttributeType, Mutability};
use super::{ResourceType, Schema};

const SCHEMA_URN: &str = "urn:ietf:params:scim:schemas:core:2.0:Schema";
const RESOURCE_TYPE_URN: &str = "urn:ietf:params:scim:schemas:core:2.0:ResourceType";
const CONFIG_URN: &str = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";

/// The most resources that one answer holds.
pub const RESULTS_MAX: u32 = 1_000;

/// How many resources a page has if the client does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;

/// The most operations of one Bulk or PATCH request.
pub const OPERATIONS_MAX: usize = 1_000;

/// The most bytes of one request body.
pub const PAYLOAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The `Resources` of `/Schemas`. `base_url` is the SCIM root without a slash at its end.
pub fn schemas(base_url: &str) -> Vec<Value> {
    all_schemas()
        .map(|schema| describe(schema, base_url))
        .collect()
}

/// One schema by its URN, in any case.
pub fn schema(base_url: &str, urn: &str) -> Option<Value> {
    all_schemas()
        .find(|schema| schema.urn.eq_ignore_ascii_case(urn))
        .map(|schema| describe(schema, base_url))
}

fn all_schemas() -> impl Iterator<Item = &'static Schema> {
    ResourceType::ALL.into_iter().flat_map(|resource| {
        std::iter::once(resource.core()).chain(resource.extensions().iter().copied())
    })
}

fn describe(schema: &Schema, base_url: &str) -> Value {
    json!({
        "schemas": [SCHEMA_URN],
        "id": schema.urn,
        "name": schema.name,
        "description": schema.description,
        "attributes": describe_all(schema.attributes),
        "meta": {
            "resourceType": "Schema",
            "location": format!("{base_url}/Schemas/{}", schema.urn),
        },
    })
}

fn describe_all(attributes: &[Attribute]) -> Vec<Value> {
    attributes
        .iter()
        .filter(|attribute| attribute.mutability != Mutability::WriteOnly)
        .map(describe_attribute)
        .collect()
}

fn describe_attribute(attribute: &Attribute) -> Value {
    let mut entries = Map::new();
    let mut put = |name: &str, value: Value| entries.insert(name.to_owned(), value);
    put("name", attribute.name.into());
    put("type", attribute.kind.as_str().into());
    put("multiValued", attribute.multi_valued.into());
    put("description", attribute.description.into());
    put("required", attribute.required.into());
    put("mutability", attribute.mutability.as_str().into());
    put("returned", attribute.returned.as_str().into());
    put("uniqueness", attribute.uniqueness.as_str().into());
    put("caseExact", attribute.case_exact.into());
    if !attribute.canonical_values.is_empty() {
        put("canonicalValues", attribute.canonical_values.into());
    }
    if !attribute.reference_types.is_empty() {
        put("referenceTypes", attribute.reference_types.into());
    }
    if attribute.kind == AttributeType::Complex {
        put(
            "subAttributes",
            describe_all(attribute.sub_attributes).into(),
        );
    }
    Value::Object(entries)
}

/// The `Resources` of `/ResourceTypes`.
pub fn resource_types(base_url: &str) -> Vec<Value> {
    ResourceType::ALL
        .into_iter()
        .map(|resource| describe_resource(resource, base_url))
        .collect()
}

/// One resource type by its name, in any case.
pub fn resource_type(base_url: &str, name: &str) -> Option<Value> {
    ResourceType::ALL
        .into_iter()
        .find(|resource| resource.name().eq_ignore_ascii_case(name))
        .map(|resource| describe_resource(resource, base_url))
}

fn describe_resource(resource: ResourceType, base_url: &str) -> Value {
    let extensions: Vec<Value> = resource
        .extensions()
        .iter()
        .map(|extension| json!({"schema": extension.urn, "required": false}))
        .collect();
    json!({
        "schemas": [RESOURCE_TYPE_URN],
        "id": resource.name(),
        "name": resource.name(),
        "description": resource.core().description,
        "endpoint": format!("/{}", resource.endpoint()),
        "schema": resource.core().urn,
        "schemaExtensions": extensions,
        "meta": {
            "resourceType": "ResourceType",
            "location": format!("{base_url}/ResourceTypes/{}", resource.name()),
        },
    })
}

/// The document of `/ServiceProviderConfig`.
pub fn service_provider_config(base_url: &str) -> Value {
    json!({
        "schemas": [CONFIG_URN],
        "patch": {"supported": true},
        "bulk": {
            "supported": true,
            "maxOperations": OPERATIONS_MAX,
            "maxPayloadSize": PAYLOAD_BYTES_MAX,
        },
        "filter": {"supported": true, "maxResults": RESULTS_MAX},
        "changePassword": {"supported": false},
        "sort": {"supported": true},
        "etag": {"supported": true},
        "pagination": {
            "cursor": true,
            "index": true,
            "defaultPaginationMethod": "index",
            "defaultPageSize": PAGE_SIZE_DEFAULT,
            "maxPageSize": RESULTS_MAX,
        },
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "OAuth Bearer Token",
            "description": "A bearer token made for one directory, sent in the Authorization header.",
            "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
            "primary": true,
        }],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{base_url}/ServiceProviderConfig"),
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{resource_type, resource_types, schema, schemas, service_provider_config};

    const BASE: &str = "https://scim.example.com/scim/v2/dir";

    fn attribute<'v>(list: &'v Value, name: &str) -> Option<&'v Value> {
        list.as_array()
            .unwrap()
            .iter()
            .find(|attribute| attribute["name"] == name)
    }

    #[test]
    fn schemas_list_what_is_kept_and_nothing_else() {
        let all = schemas(BASE);
        assert_eq!(all.len(), 3);
        let user = schema(BASE, "URN:ietf:params:scim:schemas:core:2.0:user").unwrap();
        assert_eq!(user["description"], "User Account");
        assert!(attribute(&user["attributes"], "password").is_none());
        let emails = attribute(&user["attributes"], "emails").unwrap();
        assert_eq!(emails["type"], "complex");
        assert_eq!(emails["multiValued"], true);
        let kind = attribute(&emails["subAttributes"], "type").unwrap();
        assert_eq!(
            kind["canonicalValues"],
            serde_json::json!(["work", "home", "other"])
        );
        assert_eq!(
            attribute(&user["attributes"], "groups").unwrap()["mutability"],
            "readOnly"
        );
        assert!(schema(BASE, "urn:nothing").is_none());
    }

    #[test]
    fn no_discovery_document_holds_null() {
        let all = schemas(BASE)
            .into_iter()
            .chain(resource_types(BASE))
            .chain([service_provider_config(BASE)]);
        for document in all {
            assert!(!document.to_string().contains("null"), "{document}");
            let location = document["meta"]["location"].as_str().unwrap();
            assert!(location.starts_with(BASE), "{location}");
        }
    }

    #[test]
    fn resource_types_are_found_by_name() {
        let user = resource_type(BASE, "user").unwrap();
        assert_eq!(user["endpoint"], "/Users");
        assert_eq!(user["schemaExtensions"][0]["required"], false);
        assert!(resource_type(BASE, "Device").is_none());
    }
}
