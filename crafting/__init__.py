"""Images and labels in, protected images out. Knows no file format and no Hub."""
