"""The ground floor: errors, hardware, files, progress, interrupts, downloads."""
