"""Does what we ship still resist?"""
