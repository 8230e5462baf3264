# Nothing but `enable`: the agent's units and what the host needs. The other cases show what differs from this one.
{ }
