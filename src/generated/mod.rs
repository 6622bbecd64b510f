//! The gRPC interface as generated from `proto/realtime.proto`.
//!
//! Committed so that nobody needs a protobuf compiler; the test below fails when it is not what the proto file
//! says, and writes it anew under `UPDATE=1`.

#[rustfmt::skip]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::use_self,
    clippy::or_fun_call,
    clippy::wildcard_imports,
    reason = "written by a generator with habits of its own"
)]
pub mod realtime;

/// The proto file and what it imports, compiled, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("realtime.fds");

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const PROTO: &str = "proto/realtime.proto";

    fn compiler() -> protox::Compiler {
        let mut compiler = protox::Compiler::new(["proto"]).unwrap();
        compiler.include_imports(true);
        compiler
    }

    /// The code and the descriptors that the proto file asks for.
    fn generate() -> (String, Vec<u8>) {
        let sources = compiler().include_source_info(true).open_file(PROTO).unwrap().file_descriptor_set();
        let descriptors =
            compiler().include_source_info(false).open_file(PROTO).unwrap().encode_file_descriptor_set();
        let out = tempfile::tempdir().unwrap();
        tonic_prost_build::configure()
            .out_dir(out.path())
            .emit_rerun_if_changed(false)
            .compile_fds(sources)
            .unwrap();
        (fs::read_to_string(out.path().join("realtime.rs")).unwrap(), descriptors)
    }

    #[test]
    fn committed_code_is_what_the_proto_file_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (code, descriptors) = generate();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(root.join("src/generated/realtime.rs"), &code).unwrap();
            fs::write(root.join("src/generated/realtime.fds"), &descriptors).unwrap();
            return;
        }
        let committed = fs::read_to_string(root.join("src/generated/realtime.rs")).unwrap();
        assert!(committed == code, "run UPDATE=1 cargo test committed_code");
        assert!(DESCRIPTORS == descriptors, "run UPDATE=1 cargo test committed_code");
    }
}
