"""The server side: miners' connections, sessions, and the channels that they mine."""
