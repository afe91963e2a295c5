"""Chats: what clients write in messengers, received, made durable, and read by one actor a tenant."""
