"""What records say beside each other, and whether what somebody claims holds on them."""
