//! Generates the admin API when the feature asks for it; for the REST face also as JSON with schemas.

use std::path::PathBuf;

/// Fields that are instants: in JSON RFC 3339, or null.
const INSTANTS: [&str; 20] = [
    "at",
    "ExplainFireResponse.before",
    "ExplainFireResponse.after",
    "created_at",
    "updated_at",
    "started_at",
    "finished_at",
    "scheduled_at",
    "expires_at",
    "next_fire_at",
    "oldest_scheduled_at",
    "drained_at",
    "requested_at",
    "first_at",
    "last_at",
    "Backfill.from",
    "Backfill.to",
    "Backfill.next",
    "GetStatisticsResponse.since",
    "GetStatisticsResponse.until",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("CARGO_FEATURE_ADMIN").is_none() {
        return Ok(());
    }
    println!("cargo:rerun-if-changed=api");
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("admin.bin");
    let mut build = tonic_prost_build::configure().file_descriptor_set_path(descriptors);
    if std::env::var_os("CARGO_FEATURE_REST").is_some() {
        build = build.message_attribute(".", "#[derive(serde::Serialize, utoipa::ToSchema)]");
        // A shard is a run as well.
        build = build.field_attribute("Run.shards", "#[schema(no_recursion)]");
        for name in INSTANTS {
            build = build.field_attribute(name, "#[serde(serialize_with = \"crate::time::or_null\")]");
            build = build.field_attribute(name, "#[schema(value_type = Option<String>, format = DateTime)]");
        }
    }
    build.compile_protos(&["api/forest/admin/v1/admin.proto"], &["api"])?;
    Ok(())
}
