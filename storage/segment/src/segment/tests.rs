//! Segments as a whole: what is written is read back, what is damaged is noticed.
