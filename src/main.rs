//! The program; everything is in the library.

// musl's own allocator asks the kernel for every growth of its heap.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() {
    std::process::exit(jailrun::cli::main());
}
