//! Translates the .proto files: messages, clients and servers, and their description for reflection.
//!
//! Owns: how fields of bytes are represented (shared, not copied), which `protoc` is used: the one that comes as a crate, so that
//! nothing needs to be installed; on platforms that have none, what `PROTOC` says.

use std::path::PathBuf;

const FILES: [&str; 4] = [
    "esker/v1/records.proto",
    "esker/v1/producer.proto",
    "esker/v1/consumer.proto",
    "esker/v1/admin.proto",
];

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it for build scripts"));
    let mut config = prost_build::Config::new();
    if let Some(protoc) = protoc() {
        config.protoc_executable(protoc);
    }
    tonic_prost_build::configure()
        .bytes(".")
        .file_descriptor_set_path(out.join("esker.bin"))
        .codec_path("crate::codec::BoundedCodec")
        // Connections are the user's to bring.
        .build_transport(false)
        .compile_with_config(config, &FILES, &["."])
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn protoc() -> Option<PathBuf> {
    Some(protoc_bin_vendored_linux_x86_64::protoc_bin_path())
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
fn protoc() -> Option<PathBuf> {
    Some(protoc_bin_vendored_linux_aarch_64::protoc_bin_path())
}

#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
fn protoc() -> Option<PathBuf> {
    Some(protoc_bin_vendored_macos_x86_64::protoc_bin_path())
}

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
fn protoc() -> Option<PathBuf> {
    Some(protoc_bin_vendored_macos_aarch_64::protoc_bin_path())
}

#[cfg(not(any(
    all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")),
    all(target_os = "macos", any(target_arch = "x86_64", target_arch = "aarch64"))
)))]
fn protoc() -> Option<PathBuf> {
    None
}
