"""What goes over the wire between clients and gozo. Pure."""
