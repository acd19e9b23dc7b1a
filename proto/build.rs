//! Generates the admin API when the feature asks for it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("CARGO_FEATURE_ADMIN").is_none() {
        return Ok(());
    }
    println!("cargo:rerun-if-changed=api");
    tonic_prost_build::configure().compile_protos(&["api/forest/admin/v1/admin.proto"], &["api"])?;
    Ok(())
}
