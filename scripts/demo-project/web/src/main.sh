echo "web: $(wc -c < /app/app.gz) bytes of compiled code"
