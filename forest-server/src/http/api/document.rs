//! What of the OpenAPI document goes for every call alike, and is therefore not said at each.

use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi, RefOr};

/// Refusals have a media type of their own, and what is absent from a query or a header is not null.
pub(super) fn complete(document: &mut OpenApi) {
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in operations.into_iter().flatten() {
            refusals(operation);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    absent_is_not_null(parameter);
                }
            }
        }
    }
}

fn refusals(operation: &mut Operation) {
    if let Some(RefOr::T(refusal)) = operation.responses.responses.get_mut("default")
        && let Some(content) = refusal.content.shift_remove("application/json")
    {
        refusal.content.insert("application/problem+json".into(), content);
    }
}

fn absent_is_not_null(parameter: &mut Parameter) {
    if parameter.parameter_in == ParameterIn::Path {
        return;
    }
    if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &object.schema_type
        && let [one, Type::Null] | [Type::Null, one] = types.as_slice()
    {
        object.schema_type = SchemaType::Type(one.clone());
    }
}
