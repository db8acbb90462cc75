"""The streamed answers of servers: events of a stream, the tokens in each shape of them, and which are missing."""
