"""What goes by way of a mailbox: registering, recovering, and the mails of both."""
