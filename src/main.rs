//! The `broadside` command.

fn main() {}
