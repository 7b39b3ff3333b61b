"""The HTTP endpoints: parse, call one function, answer."""
