"""How people sign in: by password, with a second factor, by passkey, or through an identity provider.

django-allauth does it. Here is what it is told of this installation, and which of its pages there are
(urls.py). Nobody signs up, and no e-mail is sent.
"""
