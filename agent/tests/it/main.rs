<<<<<<< HEAD
//! Tests of the whole agent: the real binary, real components, real sockets.

mod configs;
mod dependencies;
mod hostile;
mod layering;
mod outage;
mod recovery;
mod reload;
mod servers;
mod shipped;
mod support;
mod whole_loop;
=======
//! Tests of the agent from outside, in one binary.

mod reload;
mod support;
>>>>>>> h-registry
