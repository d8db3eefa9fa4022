//! Runs at build time only: tells the linker what cargo has no key for.

fn main() {
    // A worker thread may still be inside this library when its module is purged, so the
    // library is never unmapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
