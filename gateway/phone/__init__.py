"""The browser phone: a page that calls this gateway as Twilio does, and shows what happens in the call."""
