//! The running pipeline: collect → evaluate → alert → deliver, recover.

pub mod view;
