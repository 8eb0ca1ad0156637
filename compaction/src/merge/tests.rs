//! Where slices and objects are cut.
