"""What everything rests on: errors, hardware, files, progress, interrupts, downloads."""
