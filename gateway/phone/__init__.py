"""The browser phone: one page that calls this gateway as Twilio does, and shows what such a call is like."""
