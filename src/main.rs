//! The program; everything is in the library.

// musl's own allocator asks the kernel for every growth of its heap.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: jailrun::sys::Heap = jailrun::sys::Heap::new();

fn main() {
    std::process::exit(jailrun::cli::main());
}
