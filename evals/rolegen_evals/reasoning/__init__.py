"""``rolegen bench reasoning``: is the reasoning right where the truth is known?"""
