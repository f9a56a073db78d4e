"""What goes over the wire, by noun: params and results."""
