"""The client side: mining on another pool."""
