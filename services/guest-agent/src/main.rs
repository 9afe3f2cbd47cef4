pub mod proto { connectrpc::include_generated!(); }
fn main(){}
