//! A real driver.
