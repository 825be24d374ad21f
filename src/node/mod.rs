//! Setting a machine up, and looking what is wrong with it.
//!
//! What belongs here: whatever a person does once per machine or when something fails. What does
//! not: anything on the way of a container's start.

pub mod doctor;
